"""GAT in place of GATConv, in the calls of PyG's own tests of that layer."""

from typing import Any

import pytest
import torch
from torch_geometric.nn import GATConv
from torch_geometric.utils import to_torch_csc_tensor

from mpnn_arch import InputError
from mpnn_arch.rounds.gnn import GAT

RNG = torch.Generator().manual_seed(0)
X1, X2 = torch.randn(4, 8, generator=RNG), torch.randn(2, 16, generator=RNG)
EDGES = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
OTHER = torch.tensor([[0, 1, 2, 3], [1, 0, 1, 1]])
WEIGHT, ATTR = torch.randn(4, generator=RNG), torch.randn(4, 4, generator=RNG)
SQUARE = to_torch_csc_tensor(EDGES, size=(4, 4)).t()
WIDE = to_torch_csc_tensor(EDGES, size=(4, 2)).t()
ALPHA = {"return_attention_weights": True}


def calls() -> dict[str, tuple[dict[str, Any], Any, Any, dict[str, Any]]]:
    """The arguments of the layer, x, edges, and the other arguments of every call."""
    found: dict[str, Any] = {}
    for residual in (False, True):
        one = {"residual": residual}
        two = {"in_channels": (8, 16), "residual": residual}
        found |= {
            f"edge_index, {residual}": (one, X1, EDGES, {}),
            f"size, {residual}": (one, X1, EDGES, {"size": (4, 4)}),
            f"sparse, {residual}": (one, X1, SQUARE, {}),
            f"attention, {residual}": (one, X1, EDGES, ALPHA),
            f"attention, sparse, {residual}": (one, X1, SQUARE, ALPHA),
            f"pair, {residual}": (two, (X1, X2), EDGES, {}),
            f"pair, size, {residual}": (two, (X1, X2), EDGES, {"size": (4, 2)}),
            f"pair, sparse, {residual}": (two, (X1, X2), WIDE, {}),
            f"no receivers, {residual}": (two, (X1, None), EDGES, {"size": (4, 2)}),
            f"no receivers, sparse, {residual}": (two, (X1, None), WIDE, {}),
        }
    for fill in (0.5, "mean"):
        for width, attr in ((1, WEIGHT), (4, ATTR)):
            given = {"edge_dim": width, "fill_value": fill}
            found[f"edge_attr of {width}, {fill}"] = given, X1, OTHER, {"edge_attr": attr}
    found["empty graph"] = {}, torch.randn(0, 8), torch.empty(2, 0, dtype=torch.long), {}
    return found


CALLS = calls()
NOT_APPLICABLE: dict[str, str] = {}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_pygs(name: str, hold: Any) -> None:
    given, x, edges, rest = CALLS[name]

    def make() -> GATConv:
        return GATConv(**{"in_channels": 8, "out_channels": 32, "heads": 2, **given})

    out = hold(GAT, make, x, edges, **rest)
    assert out.shape == (2 if isinstance(x, tuple) else len(x), 64)


def test_attention_sums_to_one_over_the_senders() -> None:
    layer = GAT(8, 32, heads=2)
    out, (edges, alpha) = layer(X1, EDGES, return_attention_weights=True)
    assert edges.shape == (2, 7)
    assert alpha.shape == (7, 2)
    torch.testing.assert_close(out, layer(X1, EDGES))
    sums = torch.zeros(4, 2).index_add(0, edges[1], alpha)
    torch.testing.assert_close(sums, torch.ones(4, 2))
    _, (_, of_batch) = layer(torch.stack([X1, 2 * X1]), EDGES, return_attention_weights=True)
    assert of_batch.shape == (7, 2, 2)


def test_edge_features_that_do_not_fit_are_refused() -> None:
    """PyG ignores features that a layer was not created for."""
    with pytest.raises(InputError, match="this GAT has edge_dim=None"):
        GAT(8, 32)(X1, EDGES, ATTR)
    with pytest.raises(InputError, match="this GAT has edge_dim=3"):
        GAT(8, 32, edge_dim=3)(X1, EDGES, ATTR)


def test_the_count() -> None:
    """All calls of the layer in PyG's test file."""
    assert (len(CALLS), len(NOT_APPLICABLE)) == (25, 0)
