"""A graph neural network of our rounds predicts error from the graph."""

import numpy as np
import pytest
import torch

from mpnn_arch import InputError, RelationalGraph
from mpnn_arch.analysis.graph_predictor import ErrorPredictor, node_features, predict_from_graphs
from mpnn_arch.graphs import parse_one


def test_walks_count_triangles():
    graph = parse_one("ws_flex:16,5,0.3,0")
    linked = graph.adjacency.astype(float) - np.eye(16)
    features = node_features(graph, "walks")
    degree = linked.sum(axis=1)
    np.testing.assert_allclose(features[:, 0], degree)
    # Back after two steps: the mean over neighbours of one over their degree. After three: along
    # a triangle.
    np.testing.assert_allclose(features[:, 1], (linked / degree).sum(axis=1) / degree)
    step = linked / degree[:, None]
    np.testing.assert_allclose(features[:, 2], np.diag(step @ step @ step))
    with pytest.raises(InputError, match="degree or walks"):
        node_features(graph, "colour")


def test_a_graph_counts_alone_and_its_nodes_have_no_order():
    generator = torch.Generator().manual_seed(0)
    network = ErrorPredictor(2, 8, 2, generator).eval()
    graphs = [parse_one("ws_flex:12,4,0.5,0"), parse_one("ws_flex:12,6,0.2,1")]
    x = torch.randn(2, 12, 2, generator=generator)
    union = torch.cat([graphs[0].edge_index, graphs[1].edge_index + 12], dim=1)
    together = network(x, union)
    for place, graph in enumerate(graphs):
        alone = network(x[place : place + 1], graph.edge_index)
        torch.testing.assert_close(together[place : place + 1], alone)
    order = torch.randperm(12, generator=generator)
    renamed = RelationalGraph(12, order.argsort()[graphs[0].edge_index])
    torch.testing.assert_close(network(x[:1, order], renamed.edge_index), together[:1])


def test_structure_is_learned_from_the_graph(made_up):
    # C alone decides, and graphs of every density have every C: the degree does not tell it.
    table = made_up(lambda c, length, d: 32 + 4 * (c - 0.3), count=449, seeds=2, noise=0.02)
    before = torch.get_rng_state()
    found = predict_from_graphs(table, epochs=12, hidden=16, rounds=2).set_index("predictor")
    assert torch.equal(torch.get_rng_state(), before)
    assert found.loc["quadratic in C and L", "r2"] > 0.95
    assert found.loc["graph network, walks", "r2"] > 0.8
    assert found.loc["graph network, walks", "r2"] > found.loc["density", "r2"] + 0.2
    assert (found["tested_on"] == 112).all()


def test_refusals(made_up):
    table = made_up("bowl", count=52, seeds=1)
    with pytest.raises(InputError, match="test_share"):
        predict_from_graphs(table, test_share=1.0)
    for share in (0.001, 0.02, 0.999):
        with pytest.raises(InputError, match=r"holds out (0|1|52) of 52 graphs"):
            predict_from_graphs(table, test_share=share)
    few = table[table["graph"].isin(table["graph"].unique()[:20])]
    with pytest.raises(InputError, match="40 graphs or more"):
        predict_from_graphs(few)
