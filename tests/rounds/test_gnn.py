"""Rounds with the graph as input equal PyG's layers; tied and untied rounds are equal."""

import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.datasets import KarateClub
from torch_geometric.utils import erdos_renyi_graph

from mpnn_arch import GraphRound, InputError, RelationalGraph, RelationalLinear
from mpnn_arch.rounds.gnn import GAT, GCN, GIN, SAGE, Graph, tie, untie
from mpnn_arch.training.nodes import train_on_karate_club


def graphs():
    """Karate Club, and a directed random graph with an isolated node and edges out of order."""
    club = KarateClub()[0]
    yield club.x.double(), club.edge_index
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        edges = erdos_renyi_graph(12, 0.3, directed=True)
    edges = edges[:, torch.randperm(edges.shape[1], generator=generator)]
    yield torch.randn(13, 34, generator=generator, dtype=torch.float64), edges


def network():
    return nn.Sequential(nn.Linear(34, 6), nn.ReLU(), nn.Linear(6, 5)).double()


PAIRS = {
    "gcn": (lambda: pyg.GCNConv(34, 5), GCN.from_pyg),
    "gcn plain": (lambda: pyg.GCNConv(34, 5, normalize=False, bias=False), GCN.from_pyg),
    "sage": (lambda: pyg.SAGEConv(34, 5), SAGE.from_pyg),
    "sage max": (lambda: pyg.SAGEConv(34, 5, aggr="max"), SAGE.from_pyg),
    "sage no root": (lambda: pyg.SAGEConv(34, 5, root_weight=False), SAGE.from_pyg),
    "gin": (lambda: pyg.GINConv(network(), eps=0.3, train_eps=True), GIN.from_pyg),
    "graph": (lambda: pyg.GraphConv(34, 5), Graph.from_pyg),
    "graph max": (lambda: pyg.GraphConv(34, 5, aggr="max"), Graph.from_pyg),
    "gat": (lambda: pyg.GATConv(34, 5, heads=3), GAT.from_pyg),
    "gat mean": (lambda: pyg.GATConv(34, 5, heads=2, concat=False), GAT.from_pyg),
    "gat no loops": (lambda: pyg.GATConv(34, 5, add_self_loops=False), GAT.from_pyg),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_round_is_pygs_layer(name):
    make, from_pyg = PAIRS[name]
    for x, edge_index in graphs():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            theirs = make().double()
        ours = from_pyg(theirs)
        x = x.clone().requires_grad_()
        out, expected = ours(x, edge_index), theirs(x, edge_index)
        torch.testing.assert_close(out, expected)
        grad = torch.autograd.grad(out.square().sum(), [x, *ours.parameters()])
        wanted = torch.autograd.grad(expected.square().sum(), [x, *theirs.parameters()])
        torch.testing.assert_close(grad[0], wanted[0])
        # The parameters' gradients too, each compared with PyG's parameter of the same values.
        assert len(grad) == len(wanted)
        for mine, mine_grad in zip(ours.parameters(), grad[1:], strict=True):
            (same,) = (
                their_grad
                for their, their_grad in zip(theirs.parameters(), wanted[1:], strict=True)
                if torch.equal(their.flatten(), mine.flatten())
            )
            torch.testing.assert_close(mine_grad.flatten(), same.flatten())


def test_edge_weights_are_those_of_graph_conv_and_gcn():
    for x, edge_index in graphs():
        weight = torch.rand(edge_index.shape[1], generator=torch.Generator().manual_seed(0))
        for theirs, kind in ((pyg.GraphConv(34, 5), Graph), (pyg.GCNConv(34, 5), GCN)):
            theirs = theirs.double()
            out = kind.from_pyg(theirs)(x, edge_index, weight.double())
            torch.testing.assert_close(out, theirs(x, edge_index, weight.double()))


def test_the_order_of_the_edges_changes_nothing():
    x, edge_index = next(graphs())
    shuffled = edge_index[:, torch.randperm(edge_index.shape[1])]
    for aggr in ("sum", "max", "softmax", "median", "attentional"):
        layer = GraphRound(34, 6, "shared_linear", aggr, dtype=torch.float64)
        out = layer(x, edge_index)
        assert out.std(0).min() > 0.01
        torch.testing.assert_close(out, layer(x, shuffled))


def test_features_may_carry_a_batch():
    x, edge_index = next(graphs())
    layer = GraphRound(34, 6, "shared_linear", ["mean", "max"], dtype=torch.float64)
    both = layer(torch.stack([x, 2 * x]), edge_index)
    assert both.std(1).min() > 0.01
    torch.testing.assert_close(both[1], layer(2 * x, edge_index))


# -- between rounds and GNN layers ------------------------------------------------------------

RELATIONAL = RelationalGraph(5, [[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


@pytest.mark.parametrize("aggr", ["sum", "mean", "max"])
def test_a_tied_relational_mlp_is_a_gnn_on_its_relational_graph(aggr):
    generator = torch.Generator().manual_seed(1)
    init = {"message": "shared_linear", "aggr": aggr, "bias": False, "dtype": torch.float64}
    mlp = [RelationalLinear(RELATIONAL, 15, 15, generator=generator, **init) for _ in range(3)]
    x = torch.randn(7, 15, dtype=torch.float64, generator=generator)
    by_mlp, by_gnn = x, x.view(7, 5, 3)
    for layer in mlp:
        by_mlp = layer(by_mlp).relu()
        by_gnn = tie(layer)(by_gnn, RELATIONAL.edge_index).relu()
    assert by_mlp.std() > 0.01
    torch.testing.assert_close(by_gnn.flatten(1), by_mlp)


def test_an_untied_gnn_layer_is_a_relational_round():
    gnn = GraphRound(3, 4, "shared_linear", dtype=torch.float64)
    layer = untie(gnn, RELATIONAL)
    assert layer.weight.numel() == RELATIONAL.edge_index.shape[1] * 12
    x = torch.randn(7, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = layer(x.flatten(1))
    torch.testing.assert_close(
        out, torch.nn.functional.linear(x.flatten(1), layer.dense_weight(), layer.bias)
    )
    torch.testing.assert_close(out.view(7, 5, 4), gnn(x, RELATIONAL.edge_index))
    # The gradient of the shared weight is the sum of those of its copies.
    (shared,) = torch.autograd.grad(
        gnn(x, RELATIONAL.edge_index).square().sum(), gnn.message_function.weight
    )
    (copies,) = torch.autograd.grad(out.square().sum(), layer.weight)
    blocks = torch.nn.functional.pad(copies, [0, 1])[layer.plan.block_index]
    torch.testing.assert_close(blocks.sum(0), shared)


def test_tying_needs_tied_weights_and_even_shares():
    with pytest.raises(InputError, match="this one has LinearMessage"):
        tie(RelationalLinear(RELATIONAL, 15, 15))
    with pytest.raises(InputError, match="shares of different sizes"):
        tie(RelationalLinear(RELATIONAL, 16, 15, message="shared_linear", bias=False))
    with pytest.raises(InputError, match="bias=False"):
        tie(RelationalLinear(RELATIONAL, 15, 15, message="shared_linear"))
    with pytest.raises(InputError, match="can be untied"):
        untie(RelationalLinear(RELATIONAL, 15, 15), RELATIONAL)


# -- bad input --------------------------------------------------------------------------------


def test_bad_calls_get_one_sentence():
    layer = GraphRound(3, 4, "shared_linear")
    x = torch.zeros(5, 3)
    with pytest.raises(InputError, match=r"call round\(x, edge_index\)"):
        layer(x)
    with pytest.raises(InputError, match=r"takes \(..., N, 3\), not \(5, 2\)"):
        layer(x[:, :2], torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(InputError, match="names node 5, x has nodes 0 to 4"):
        layer(x, torch.tensor([[0], [5]]))
    with pytest.raises(InputError, match=r"\(2, E\) integers, this one is \(3, 1\)"):
        layer(x, torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(InputError, match="the graph of this round is fixed"):
        RelationalLinear(RELATIONAL, 15, 15)(torch.zeros(1, 15), RELATIONAL.edge_index)
    with pytest.raises(InputError, match="needs its graph in the constructor"):
        GraphRound(3, 4, "linear")
    with pytest.raises(InputError, match="converts a GCNConv, this is a SAGEConv"):
        GCN.from_pyg(pyg.SAGEConv(3, 4))
    with pytest.raises(InputError, match="only decomposed_layers=1 is converted"):
        SAGE.from_pyg(pyg.SAGEConv(3, 4, decomposed_layers=3))


@pytest.mark.parametrize("layer", ["gcn", "sage", "sage_max", "gin", "graph", "gat"])
def test_the_karate_club_is_learned_from_four_members(layer):
    before = torch.get_rng_state()
    first = train_on_karate_club(layer, seed=1, epochs=40)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == train_on_karate_club(layer, seed=1, epochs=40)
    assert first.train_loss < 0.7
    assert first.accuracy > 40  # guessing gives 30 to 40 %
