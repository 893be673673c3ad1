"""What GNN layers refuse: features, edges and values that do not fit, and wrong arguments."""

import re
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import MLP, GCNConv, GINConv

from mpnn_arch import GraphRound, InputError, graphs
from mpnn_arch.rounds.gnn import GAT, GCN, GIN, GINE, SAGE, Graph, tie, untie

C = 5


def network() -> nn.Module:
    return nn.Linear(C, 4)


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """6 nodes, 10 edges, three features an edge."""
    generator = torch.Generator().manual_seed(6)
    edges = torch.randint(0, 6, (2, 10), generator=generator)
    return torch.randn(6, C, generator=generator), edges, torch.rand(10, 3, generator=generator)


NO_ROUND_TAKES: dict[str, tuple[Any, str]] = {
    "nothing": (None, "NoneType was given: call round"),
    "a list": ([[1.0] * C] * 6, "[list, list, list, list, list, list] was given"),
    "three": ((torch.zeros(6, C),) * 3, "[Tensor, Tensor, Tensor] was given"),
    "no senders": ((None, torch.zeros(6, C)), "[NoneType, Tensor] was given"),
    "an array": (np.zeros((6, C)), "ndarray was given"),
    "a Data": (Data(x=torch.zeros(6, C)), "round(data.x, data.edge_index)"),
    "one dimension": (torch.zeros(C), "is of shape (5,), a round takes (..., N, C)"),
}


@pytest.mark.parametrize("name", NO_ROUND_TAKES)
def test_what_is_no_x_is_refused_by_every_layer(name: str) -> None:
    x, words = NO_ROUND_TAKES[name]
    edges = torch.tensor([[0], [1]])
    for layer in (GraphRound(C, 4), SAGE(C, 4), GIN(C, network()), GAT(-1, 4), Graph(-1, 4)):
        with pytest.raises(InputError, match=re.escape(words)):
            layer(x, edges)
        assert layer(torch.zeros(6, C), edges).shape == (6, 4)  # lazy ones have learned nothing


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        (nx.path_graph(6), "from_networkx(graph).edge_index"),
        (graphs.ring(6, 2), "use its edge_index"),
        (np.zeros((2, 3), dtype=np.int64), "use torch.as_tensor"),
        (torch.zeros(3, 2, dtype=torch.int64), "give edge_index.T"),
        (torch.ones(6, 6), "give adjacency.nonzero().T"),
    ],
)
def test_what_is_no_edge_index_names_what_makes_one(edges: Any, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        GCN(C, 4)(torch.zeros(6, C), edges)


def test_a_data_alone_is_told_its_parts() -> None:
    data = Data(x=torch.zeros(6, C), edge_index=torch.tensor([[0], [1]]))
    with pytest.raises(InputError, match=r"call round\(data.x, data.edge_index\)"):
        GCN(C, 4)(data)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1.0] * 10, "are a tensor (E,) or (E, F), not [1.0"),
        (2.0, "are a tensor (E,) or (E, F), not 2.0"),
        (torch.tensor(2.0), "are a tensor (E,) or (E, F), not tensor(2.)"),
        (torch.ones(3), "10 edges, 3 values"),
    ],
)
def test_what_are_no_values_of_edges_is_refused(value: Any, words: str) -> None:
    x, edges, _ = example()
    layers = (GraphRound(C, 4), GCN(C, 4), Graph(C, 4), GINE(C, network()), GAT(C, 4, edge_dim=1))
    for layer in layers:
        with pytest.raises(InputError, match=re.escape(words)):
            layer(x, edges, value)


@pytest.mark.parametrize("kind", [GCN, Graph, GraphRound])
def test_weights_may_be_a_column_and_are_one_number_per_edge(kind: type) -> None:
    x, edges, features = example()
    layer = kind(C, 4)
    torch.testing.assert_close(layer(x, edges, features[:, :1]), layer(x, edges, features[:, 0]))
    with pytest.raises(InputError, match=r"of shape \(E,\), one number per edge, not \(10, 3\)"):
        layer(x, edges, features)


def test_a_mask_is_no_edge_index_and_a_number_no_size() -> None:
    x, edges, _ = example()
    with pytest.raises(InputError, match=r"of torch\.bool"):
        SAGE(C, 4)(x, edges.bool())
    with pytest.raises(InputError, match=r"size is a pair \(N, M\), of senders"):
        SAGE(C, 4)((x, None), edges, size=6)
    for size in ((6, "6"), (6, 6.0), (6, -6)):
        with pytest.raises(InputError, match=r"size is a pair \(N, M\), .* in whole numbers; not"):
            SAGE(C, 4)((x, None), edges, size=size)


WRONG: dict[str, tuple[Any, str]] = {
    "channels of a SAGE": (lambda: SAGE("8", 4), "in_channels is an integer"),
    "output of a SAGE": (lambda: SAGE(8, 2.5), "out_channels is an integer"),
    "output of a Graph": (lambda: Graph(8, 0), "out_channels is between 1 and"),
    "output of a GAT": (lambda: GAT(8, None), "out_channels is an integer"),
    "heads": (lambda: GAT(8, 4, heads=0), "heads is between 1 and"),
    "features of a GAT": (lambda: GAT(8, 4, edge_dim="3"), "edge_dim is an integer"),
    "dropout": (lambda: GAT(8, 4, dropout=2), "dropout lies between 0 and 1"),
    "slope": (lambda: GAT(8, 4, negative_slope="0.2"), "negative_slope is a number"),
    "fill_value": (lambda: GAT(8, 4, fill_value=None), "fill_value is a number"),
    "concat": (lambda: GAT(8, 4, concat="no"), "concat is True or False"),
    "features of a GINE": (lambda: GINE(8, network(), edge_dim=2.5), "edge_dim is an integer"),
    "no network": (lambda: GIN(8, None), "network is a module of torch"),
    "a class": (lambda: GIN(8, nn.Linear), "network is a module of torch"),
    "eps": (lambda: GIN(8, network(), eps="0.1"), "eps is a number"),
    "train_eps": (lambda: GIN(8, network(), train_eps="no"), "train_eps is True or False"),
    "layer of tie": (lambda: tie(GCNConv(8, 4)), "take a round of this library, not GCNConv"),
    "layer of untie": (lambda: untie(None, "ring:4,2"), "take a round of this library, not None"),
    "lazy": (lambda: untie(GraphRound(-1, 4), "ring:4,2"), "channels of this layer are not known"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_refused_by_name(name: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(InputError, match=words):
        make()


def test_what_a_subclass_returns_is_checked() -> None:
    class NoMessage(GraphRound):
        def message(self, x_j: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            del x_j
            return None  # type: ignore[return-value]

    x, edges, _ = example()
    with pytest.raises(InputError, match="NoMessage has messages of None; expected"):
        NoMessage(C, 4)(x, edges)
    with pytest.raises(InputError, match=r"GIN updated its nodes to a tuple; expected.*\(6, C\)"):
        GIN(C, nn.LSTM(C, 4))(x, edges)


def test_one_map_of_senders_and_receivers_is_refused_for_a_pair_of_channels() -> None:
    x, edges, _ = example()
    layer = GraphRound((C, 3), 4, "shared_attention")
    with pytest.raises(
        InputError, match="one W maps senders of 5 channels, and not receivers of 3"
    ):
        layer((x, torch.zeros(6, 3)), edges)


def test_the_output_channels_of_a_gin_are_those_of_its_network() -> None:
    assert repr(GIN(C, network())).startswith("GIN(\n  5, aggr='sum'\n")
    deep = nn.Sequential(nn.Sequential(nn.Linear(C, 7), nn.BatchNorm1d(7)), nn.ReLU())
    x, edges, _ = example()
    for layer, channels in [
        (GIN(C, network()), 4),
        (GIN(C, deep), 7),
        (GIN(C, nn.ReLU()), C),
        (GIN(-1, nn.Linear(C, 3)), 3),
        (GIN.from_pyg(GINConv(deep)), 7),
        (GIN.from_pyg(GINConv(MLP([C, 7, 3]))), 3),
    ]:
        assert layer(x, edges).shape[-1] == layer.out_channels == channels
    assert GIN(C, nn.LSTM(C, 4)).out_channels is None
