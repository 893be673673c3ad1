"""SAGE in place of SAGEConv, in the calls of PyG's own tests of that layer."""

from typing import Any

import pytest
import torch
from torch_geometric.nn import MLPAggregation, SAGEConv
from torch_geometric.utils import to_torch_coo_tensor, to_torch_csc_tensor

from mpnn_arch import InputError
from mpnn_arch.rounds.gnn import SAGE

RNG = torch.Generator().manual_seed(0)
X1, X2 = torch.randn(4, 8, generator=RNG), torch.randn(2, 16, generator=RNG)
X = torch.randn(4, 8, generator=RNG)
EDGES = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 1]])
UNSORTED = torch.tensor([[0, 1, 2, 3], [1, 0, 1, 0]])
# As PyG's `assert_module` gives them.
LAYOUTS: dict[str, Any] = {
    "in order": lambda size: EDGES,
    "permuted": lambda size: EDGES[:, [2, 0, 3, 1]],
    "csc": lambda size: to_torch_csc_tensor(EDGES, size=size).t(),
    "coo": lambda size: to_torch_coo_tensor(EDGES, size=size).t(),
}
FOUR = ["mean", "max", "sum", "softmax"]
MODES: dict[str, dict[str, Any]] = {
    "cat": {"mode": "cat"},
    "proj": {"mode": "proj", "mode_kwargs": {"in_channels": 8, "out_channels": 16}},
    "attn": {
        "mode": "attn",
        "mode_kwargs": {"in_channels": 8, "out_channels": 16, "num_heads": 4},
    },
    "sum": {"mode": "sum"},
}


def calls() -> dict[str, tuple[dict[str, Any], Any, Any, dict[str, Any]]]:
    """The arguments of the layer, x, edges, and the other arguments of every call."""
    found: dict[str, Any] = {}
    for aggr in ("mean", "sum"):
        for project in (False, True):
            for layout, of in LAYOUTS.items():
                given = {"aggr": aggr, "project": project}
                name = f"{aggr}, project={project}, {layout}"
                pair = {"in_channels": (8, 16), **given}
                found[name] = given, X, of((4, 4)), {}
                found[f"{name}, pair"] = pair, (X1, X2), of((4, 2)), {}
                found[f"{name}, no receivers"] = pair, (X1, None), of((4, 2)), {"size": (4, 2)}
    for mode, given in MODES.items():
        for layout, of in LAYOUTS.items():
            each = [{}, {}, {}, {"learn": True, "t": 1}]
            arguments = {"aggr": FOUR, "aggr_kwargs": {**given, "aggrs_kwargs": each}}
            found[f"four aggregations, {mode}, {layout}"] = arguments, X, of((4, 4)), {}
    for layout in ("in order", "csc", "coo"):
        found[f"lstm, {layout}"] = {"aggr": "lstm"}, X, LAYOUTS[layout]((4, 4)), {}
    mlp = MLPAggregation(8, 8, max_num_elements=2, num_layers=1)
    found["mlp"] = {"aggr": mlp}, X, EDGES, {}
    found["five aggregations"] = {"aggr": ["mean", "sum", "min", "max", "std"]}, X, EDGES, {}
    return found


CALLS = calls()
LAZY = ("the channels of the first input",)
COMPILED = ("explain: no graph break", "compiled")
NOT_APPLICABLE = {
    "lstm, unsorted": "PyG refuses edges out of order; a round sorts its messages by receiver",
    "lazy, project=True": "PyG does not know lazy channels with project=True; a round does",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_pygs(name: str, hold: Any) -> None:
    given, x, edges, rest = CALLS[name]
    out = hold(
        SAGE, lambda: SAGEConv(**{"in_channels": 8, "out_channels": 32, **given}), x, edges, **rest
    )
    assert out.shape == (2 if isinstance(x, tuple) else 4, 32)


def test_lazy_channels() -> None:
    layer = SAGE(-1, 32)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer(X, EDGES)
    assert before.shape == (4, 32)
    known = SAGE(8, 32)
    known.load_state_dict(layer.state_dict())
    torch.testing.assert_close(known(X, EDGES), before)
    before.square().sum().backward()
    optimizer.step()  # the parameters it was given are those of the layer
    assert not torch.allclose(layer(X, EDGES), before)


def test_what_is_not_applicable_does_what_its_reason_says() -> None:
    theirs = SAGEConv(8, 32, aggr="lstm")
    with pytest.raises(ValueError, match="not sorted"):
        theirs(X, UNSORTED)
    order = UNSORTED[1].argsort(stable=True)
    out = SAGE.from_pyg(theirs)(X, UNSORTED)
    torch.testing.assert_close(out, theirs(X, UNSORTED[:, order]))

    with pytest.raises(ValueError, match="does not support lazy"):
        SAGEConv(-1, 32, project=True)
    assert SAGE(-1, 32, project=True)(X, EDGES).shape == (4, 32)


def test_a_compiled_layer_has_no_graph_break() -> None:
    torch._dynamo.reset()
    layer = SAGE(8, 32, aggr=["mean", "sum", "min", "max", "std"])
    explanation = torch._dynamo.explain(layer)(X, EDGES)
    assert explanation.graph_break_count == 0
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X, EDGES), layer(X, EDGES))


def test_a_sparse_tensor_with_values_is_refused() -> None:
    """PyG weights messages by them where a kernel is fused, and ignores them elsewhere."""
    adjacency = to_torch_csc_tensor(EDGES, torch.rand(4) + 2, size=(4, 4)).t()
    for aggr in ("mean", "std"):
        with pytest.raises(InputError, match="SAGE has no edge weights"):
            SAGE(8, 32, aggr)(X, adjacency)


def test_the_count() -> None:
    """All but two of the calls of the layer in PyG's test file."""
    held = len(CALLS) + len(LAZY) + len(COMPILED)
    assert (held, len(NOT_APPLICABLE)) == (72, 2)
