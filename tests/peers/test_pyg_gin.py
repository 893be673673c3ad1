"""GIN and GINE in place of GINConv and GINEConv, in the calls of PyG's own tests."""

from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.nn import GINConv, GINEConv
from torch_geometric.utils import to_torch_csc_tensor

from mpnn_arch import InputError
from mpnn_arch.rounds.gnn import GIN, GINE

RNG = torch.Generator().manual_seed(0)
X1, X2 = torch.randn(4, 16, generator=RNG), torch.randn(2, 16, generator=RNG)
MANY = torch.randn(3, 4, 16, generator=RNG)
EDGES = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
STAR = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]])
VALUE = torch.randn(4, 16, generator=RNG)
FEW = torch.randn(4, 8, generator=RNG)
OF_STAR = torch.randn(6, 16, generator=RNG)
SQUARE = to_torch_csc_tensor(EDGES, size=(4, 4)).t()
WIDE = to_torch_csc_tensor(EDGES, size=(4, 2)).t()


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32))


def gin() -> GINConv:
    return GINConv(network(), train_eps=True)


def gine(**arguments: Any) -> GINEConv:
    return GINEConv(network(), train_eps=True, **arguments)


def of_8() -> GINEConv:
    return gine(edge_dim=8)


def shallow() -> GINEConv:
    return GINEConv(nn.Linear(16, 32), train_eps=True, edge_dim=8)


PAIR, ALONE, SIZE = (X1, X2), (X1, None), {"size": (4, 2)}
CALLS: dict[str, tuple[Any, Any, Any, Any, dict[str, Any]]] = {
    "edge_index": (GIN, gin, X1, EDGES, {}),
    "size": (GIN, gin, X1, EDGES, {"size": (4, 4)}),
    "sparse": (GIN, gin, X1, SQUARE, {}),
    "pair": (GIN, gin, PAIR, EDGES, {}),
    "pair, size": (GIN, gin, PAIR, EDGES, SIZE),
    "pair, sparse": (GIN, gin, PAIR, WIDE, {}),
    "no receivers": (GIN, gin, ALONE, EDGES, SIZE),
    "no receivers, sparse": (GIN, gin, ALONE, WIDE, {}),
    "static graph": (GIN, gin, MANY, STAR, {}),
    "edges": (GINE, gine, X1, EDGES, {"edge_attr": VALUE}),
    "edges, size": (GINE, gine, X1, EDGES, {"edge_attr": VALUE, "size": (4, 4)}),
    "edges, pair": (GINE, gine, PAIR, EDGES, {"edge_attr": VALUE}),
    "edges, pair, size": (GINE, gine, PAIR, EDGES, {"edge_attr": VALUE, **SIZE}),
    "edges, no receivers": (GINE, gine, ALONE, EDGES, {"edge_attr": VALUE, **SIZE}),
    "edge_dim": (GINE, of_8, X1, EDGES, {"edge_attr": FEW}),
    "edge_dim, one linear map": (GINE, shallow, X1, EDGES, {"edge_attr": FEW}),
    "edges, static graph": (GINE, gine, MANY, STAR, {"edge_attr": OF_STAR}),
}
NOT_APPLICABLE: dict[str, str] = {}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_pygs(name: str, hold: Any) -> None:
    kind, make, x, edges, rest = CALLS[name]
    out = hold(kind, make, x, edges, **rest)
    rows = x.shape[:-1] if isinstance(x, torch.Tensor) else (2,)
    assert out.shape == (*rows, 32)


def test_the_network_tells_the_channels_or_the_first_input_does() -> None:
    assert GIN.from_pyg(gin()).in_channels == 16

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(16, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x)

    theirs = GINConv(Hidden(), eps=0.5)
    ours = GIN.from_pyg(theirs)
    assert ours.in_channels == -1
    torch.testing.assert_close(ours(X1, EDGES), theirs(X1, EDGES))
    assert ours.in_channels == 16
    assert ours.network is theirs.nn


def test_edge_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"edge_attr of shape \(E, 16\), not \(4, 8\)"):
        GINE(16, network())(X1, EDGES, FEW)
    with pytest.raises(InputError, match="not None"):
        GINE(16, network())(X1, EDGES)


def test_edge_features_in_a_sparse_tensor() -> None:
    index = torch.stack([EDGES[1], EDGES[0]])
    adjacency = torch.sparse_coo_tensor(index, VALUE, (4, 4, 16))
    layer = GINE(16, network())
    torch.testing.assert_close(layer(X1, adjacency), layer(X1, EDGES, VALUE))


def test_the_count() -> None:
    """All calls of the two layers in PyG's test file."""
    assert (len(CALLS), len(NOT_APPLICABLE)) == (17, 0)
