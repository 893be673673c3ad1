"""GCN in place of GCNConv, in the calls of PyG's own tests of that layer."""

from typing import Any

import pytest
import torch
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_torch_csc_tensor

from mpnn_arch import InputError
from mpnn_arch.rounds.gnn import GCN

X = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
STAR = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]])
OUT = torch.tensor([[0, 0, 0], [1, 2, 3]])
WEIGHT = torch.rand(6, generator=torch.Generator().manual_seed(1))
FEW = torch.sparse_coo_tensor(torch.tensor([[0, 0], [0, 1]]), torch.ones(2), (4, 16))
MANY = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(2))


def layer(**arguments: Any) -> GCNConv:
    return GCNConv(16, 32, **arguments)


def cache_of(edges: torch.Tensor) -> Any:
    def fill(conv: Any) -> None:
        conv.cached = True
        with torch.no_grad():
            conv(X, edges)

    return fill


def cache(conv: Any) -> None:
    conv.cached = True


def reverse(conv: Any) -> None:
    conv.flow = "target_to_source"


def adjacency(*value: Any) -> torch.Tensor:
    return to_torch_csc_tensor(STAR, *value, size=(4, 4)).t()


# The calls of PyG's tests by what they show: x, edges, and what happens before.
CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "edge_index": (X, STAR, {}),
    "sparse": (X, adjacency(), {}),
    "edge_weight": (X, STAR, {"edge_weight": WEIGHT}),
    "sparse with values": (X, adjacency(WEIGHT), {}),
    "cached, the first call": (X, STAR, {"before": cache}),
    "cached, again": (X, STAR, {"before": cache_of(STAR)}),
    "cached, as a sparse tensor": (X, adjacency(), {"before": cache_of(STAR)}),
    "before decomposition": (X, STAR, {}),
    "sparse features": (FEW, STAR, {}),
    "static graph": (MANY, STAR, {}),
    "flow": (X, OUT, {}),
    "flow reversed": (X, OUT.flip(0), {"before": reverse}),
}
# The calls that are not ours to hold, and why.
NOT_APPLICABLE = {
    "decomposed_layers=2": "a round's message reads all channels, and says so",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_pygs(name: str, hold: Any) -> None:
    x, edges, rest = CALLS[name]
    out = hold(GCN, layer, x, edges, **rest)
    assert out.shape == (*x.shape[:-1], 32)


def test_what_is_not_applicable_is_refused() -> None:
    round_ = GCN.from_pyg(layer())
    for name, reason in NOT_APPLICABLE.items():
        with pytest.raises(InputError, match="a round is not decomposed"):
            round_.decomposed_layers = 2
        assert name
        assert reason


def test_self_loops_without_normalisation_are_pygs_error_too() -> None:
    for kind in (GCN, GCNConv):
        with pytest.raises(ValueError, match="does not support adding"):
            kind(16, 32, normalize=False, add_self_loops=True)


def test_a_pair_of_features_is_pygs_error_too() -> None:
    for kind in (GCN, GCNConv):
        with pytest.raises(ValueError, match="does not support bipartite"):
            kind(16, 32)((X, X), STAR)


def test_a_cache_is_not_used_for_another_graph() -> None:
    """PyG's cached layer would: it keeps the first graph, whatever the next one is."""
    round_ = GCN.from_pyg(layer(cached=True))
    plain = GCN.from_pyg(layer())
    plain.load_state_dict(round_.state_dict())
    round_(X, STAR)
    assert round_._cache is not None
    torch.testing.assert_close(round_(X, OUT), plain(X, OUT))
    torch.testing.assert_close(round_(X, STAR, WEIGHT), plain(X, STAR, WEIGHT))
    changed = STAR.clone()
    round_(X, changed)
    changed[0, 0] = 3
    torch.testing.assert_close(round_(X, changed), plain(X, changed))


def test_the_sparse_tensors_values_get_their_gradient() -> None:
    theirs = layer()
    ours = GCN.from_pyg(theirs)
    weight = WEIGHT.clone().requires_grad_()
    (mine,) = torch.autograd.grad(ours(X, adjacency(weight)).square().sum(), weight)
    (other,) = torch.autograd.grad(theirs(X, STAR, weight).square().sum(), weight)
    torch.testing.assert_close(mine, other)


def test_the_count() -> None:
    """All but one of the calls of the layer in PyG's test file, and its error."""
    assert (len(CALLS) + 1, len(NOT_APPLICABLE)) == (13, 1)
