"""The graph that a network has learned, against weights with a known answer."""

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from mpnn_arch import InputError, RelationalLinear, graphs, models
from mpnn_arch.analysis import LearnedGraphTracker, learned_graph, learned_graph_sweep
from mpnn_arch.analysis.graph_of_weights import edge_values
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset


def planted(graph, share=4, layers=2, noise=0.01, seed=0):
    """Square weights that are large where ``graph`` has an edge."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.from_numpy(graph.adjacency).repeat_interleave(share, 0)
    mask = mask.repeat_interleave(share, 1)
    shape = (len(mask), len(mask))
    return [
        torch.randn(shape, generator=generator) * torch.where(mask, 1.0, noise)
        for _ in range(layers)
    ]


def stack(weights):
    net = nn.Sequential(nn.Linear(7, len(weights[0])))
    for weight in weights:
        layer = nn.Linear(*weight.shape, bias=False)
        layer.weight.data = weight
        net.extend([nn.ReLU(), layer])
    return net.append(nn.Linear(len(weights[0]), 3))


GRAPH = graphs.generate("ws_flex", 16, 5, 0.2, 1)


def test_edge_values_are_the_norms_of_blocks_computed_one_by_one():
    weights = planted(GRAPH, 3, layers=3)
    values = edge_values(stack(weights), 16)
    expected = np.zeros((16, 16))
    for v in range(16):
        for u in range(16):
            rows, columns = slice(3 * v, 3 * v + 3), slice(3 * u, 3 * u + 3)
            blocks = [w[rows, columns] + w[columns, rows].T for w in weights]
            if v != u:
                expected[v, u] = torch.stack(blocks).double().norm()
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert (values == values.T).all()


def test_a_planted_graph_is_found_by_density_by_threshold_and_by_neither():
    for model in (stack(planted(GRAPH)), planted(GRAPH)):
        density = GRAPH.degrees.mean() / 16
        found = learned_graph(model, 16, density=density)
        assert found.graph == GRAPH
        assert found.density == pytest.approx(density)
        assert learned_graph(model, 16, threshold=1.0).graph == GRAPH
        assert learned_graph(model, 16, threshold=found.threshold).graph == GRAPH
    sparse = learned_graph(model, 16)
    assert sparse.is_connected
    assert nx.is_connected(sparse.graph.to_networkx())
    weakest = sparse.edge_values[sparse.edge_values > sparse.threshold].min()
    assert not learned_graph(model, 16, threshold=weakest).is_connected
    tiny = learned_graph([w.double() * 2.0**-80 for w in model], 16)
    assert tiny.graph == learned_graph([w.double() for w in model], 16).graph


def test_the_graph_of_a_relational_network_comes_back():
    net = nn.Sequential(nn.Linear(5, 64), RelationalLinear(GRAPH, 64, 64), nn.ReLU())
    net.append(RelationalLinear(GRAPH, 64, 64, aggr="mean"))
    assert learned_graph(net, 16, threshold=0.0).graph == GRAPH
    complete = graphs.complete(16)
    assert learned_graph(RelationalLinear(complete, 64, 64), 16, threshold=0.0).graph == complete


def test_the_published_dense_network_and_its_relational_twin_agree():
    dense = models.build("mlp", None, in_features=20, num_classes=4, seed=3)
    weights = [layer.layer.weight for layer in dense.rounds]
    assert np.array_equal(edge_values(dense, 64), edge_values(weights, 64))
    assert len(weights) == 3


def test_unreachable_pairs_are_left_out():
    values = torch.zeros(6, 6)
    values[0, 1] = values[1, 2] = values[3, 4] = 1.0
    found = learned_graph([values], 6, threshold=0.5)
    assert found.average_path_length == (4 * 1 + 2 * 2 + 2 * 1) / 8
    assert found.clustering_coefficient == 0
    assert not found.is_connected
    assert np.isnan(learned_graph([values], 6, threshold=2.0).average_path_length)
    with pytest.raises(InputError, match="no threshold gives a connected graph"):
        learned_graph([values], 6)


def test_a_sweep_cuts_the_same_values():
    weights = planted(GRAPH)
    table = learned_graph_sweep(weights, 16)
    assert table["density"].tolist() == pytest.approx(
        [round(d * 128) / 128 for d in np.arange(1, 19) / 20]
    )
    assert table["threshold"].is_monotonic_decreasing
    for row in table.to_dict("records")[::5]:
        graph = learned_graph(weights, 16, threshold=row["threshold"]).graph
        assert row["clustering_coefficient"] == graph.clustering_coefficient
        assert row["edges"] == graph.num_edges
    with pytest.raises(InputError, match=r"thresholds is a list, not 0\.5"):
        learned_graph_sweep(weights, 16, thresholds=0.5)
    two = learned_graph_sweep(weights, 16, thresholds=[0.5, 2.0])
    assert two["threshold"].tolist() == [0.5, 2.0]


def test_a_matrix_alone_is_a_list_of_one():
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    alone, listed = (learned_graph(given, 8, density=0.25) for given in (weight, [weight]))
    assert alone.graph == listed.graph


def test_a_tracker_follows_a_training_without_changing_it():
    data = load_dataset("digits").subset(300, 100)
    errors = []
    for track in (True, False):
        model = models.build(
            "mlp", None, in_features=64, hidden_features=64, num_classes=10, seed=0
        )
        config = TrainingConfig(epochs=2)
        trainer = Trainer(model, data, config, generator=torch.Generator().manual_seed(0))
        tracker = LearnedGraphTracker(model, 16, density=0.25)
        if track:
            before = tracker(0)
        while not trainer.finished:
            metrics = trainer.train_epoch()
            errors.append(metrics.test_error)
            if track:
                tracker(metrics)
        if track:
            table = tracker.table
            after = learned_graph(model, 16, density=0.25)
    assert errors[:2] == errors[2:]
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["test_error"].tolist()[1:] == errors[:2]
    first, last = table.iloc[0], table.iloc[2]
    assert first["clustering_coefficient"] == before.clustering_coefficient
    assert last["clustering_coefficient"] == after.clustering_coefficient
    assert not np.array_equal(before.edge_values, after.edge_values)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: learned_graph(nn.Linear(4, 5), 2), "no square linear layer"),
        (lambda: learned_graph([], 2), "no weight matrix"),
        (lambda: learned_graph([torch.zeros(3, 4)], 2), r"shape \(m, m\), not one of \(3, 4\)"),
        (lambda: learned_graph(torch.zeros(3), 2), r"not one of \(3,\)"),
        (lambda: learned_graph([torch.zeros(4, 4), torch.zeros(5, 5)], 2), "4 and 5 channels"),
        (lambda: learned_graph([torch.ones(4, 4)], 5), "cannot be shared among 5 nodes"),
        (lambda: learned_graph([torch.ones(4, 4)], 2, 0.5, 0.5), "leave one out"),
        (lambda: learned_graph([torch.ones(4, 4)], 2, density=0.9), "between 0 and 0.5"),
        (lambda: learned_graph([torch.ones(4, 4)], 2, threshold=-1.0), "threshold lies between"),
        (lambda: learned_graph([torch.full((4, 4), torch.nan)], 2, 0.5), "NaN"),
    ],
)
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
