"""Graph in place of GraphConv, in the calls of PyG's own tests of that layer."""

from typing import Any

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import GraphConv
from torch_geometric.utils import to_torch_csc_tensor

from mpnn_arch import InputError
from mpnn_arch.rounds.gnn import Graph

RNG = torch.Generator().manual_seed(0)
X1, X2 = torch.randn(4, 8, generator=RNG), torch.randn(2, 16, generator=RNG)
EDGES = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
VALUE = torch.randn(4, generator=RNG)
WEIGHTED = {"edge_weight": VALUE}


def one() -> GraphConv:
    return GraphConv(8, 32)


def two() -> GraphConv:
    return GraphConv((8, 16), 32)


def sparse(size: tuple[int, int], *value: Any) -> torch.Tensor:
    return to_torch_csc_tensor(EDGES, *value, size=size).t()


def by_target(size: tuple[int, int]) -> EdgeIndex:
    return EdgeIndex(EDGES, sort_order="col", sparse_size=size)


PAIR, ALONE, S4, S2 = (X1, X2), (X1, None), (4, 4), (4, 2)
CALLS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "edge_index": (one, X1, EDGES, {}),
    "size": (one, X1, EDGES, {"size": S4}),
    "sparse": (one, X1, sparse(S4), {}),
    "EdgeIndex": (one, X1, by_target(S4), {}),
    "edge_weight": (one, X1, EDGES, WEIGHTED),
    "edge_weight, size": (one, X1, EDGES, {**WEIGHTED, "size": S4}),
    "sparse with values": (one, X1, sparse(S4, VALUE), {}),
    "EdgeIndex, edge_weight": (one, X1, by_target(S4), WEIGHTED),
    "pair": (two, PAIR, EDGES, {}),
    "pair, size": (two, PAIR, EDGES, {"size": S2}),
    "pair, sparse": (two, PAIR, sparse(S2), {}),
    "pair, EdgeIndex": (two, PAIR, by_target(S2), {}),
    "no receivers": (two, ALONE, EDGES, {"size": S2}),
    "no receivers, sparse": (two, ALONE, sparse(S2), {}),
    "no receivers, EdgeIndex": (two, ALONE, by_target(S2), {}),
    "pair, edge_weight": (two, PAIR, EDGES, WEIGHTED),
    "pair, edge_weight, size": (two, PAIR, EDGES, {**WEIGHTED, "size": S2}),
    "pair, sparse with values": (two, PAIR, sparse(S2, VALUE), {}),
    "pair, EdgeIndex, edge_weight": (two, PAIR, by_target(S2), WEIGHTED),
    "no receivers, edge_weight": (two, ALONE, EDGES, {**WEIGHTED, "size": S2}),
    "no receivers, sparse with values": (two, ALONE, sparse(S2, VALUE), {}),
    "no receivers, EdgeIndex, edge_weight": (two, ALONE, by_target(S2), WEIGHTED),
}
NOT_APPLICABLE = {
    "a subclass with its own message": "messages have a batch dimension, (E, B, C); a subclass "
    "written for PyG's (E, C) must be rewritten for it",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_pygs(name: str, hold: Any) -> None:
    make, x, edges, rest = CALLS[name]
    out = hold(Graph, make, x, edges, **rest)
    assert out.shape == (2 if isinstance(x, tuple) else 4, 32)


class ForPyG(Graph):
    def message(self, x_j: Any, edge_weight: Any) -> Any:  # type: ignore[override]
        return edge_weight.view(-1, 1) * x_j


class ForRounds(Graph):
    def message(self, x_j: Any, edge_weight: Any) -> Any:  # type: ignore[override]
        return edge_weight.view(-1, 1, 1) * x_j


def test_what_is_not_applicable_is_refused() -> None:
    weight = torch.rand(4)
    assert len(NOT_APPLICABLE) == 1
    with pytest.raises(InputError, match=r"messages of shape \(4, 4, 8\)"):
        ForPyG(8, 16)(X1, EDGES, weight)
    layer, plain = ForRounds(8, 16), Graph(8, 16)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(X1, EDGES, weight), plain(X1, EDGES, weight))


def test_an_edge_index_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="the graph has 5 targets, x has 4 rows"):
        Graph(8, 32)(X1, EdgeIndex(EDGES, sparse_size=(4, 5)))


def test_the_count() -> None:
    """All but one of the calls of the layer in PyG's test file."""
    assert (len(CALLS), len(NOT_APPLICABLE)) == (22, 1)
