"""Wrong arguments of a round are refused in one line; other dtypes raise what torch raises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mpnn_arch import GraphRound, InputError, RelationalConv2d, RelationalLinear, graphs

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
BACKENDS = ["auto", "masked", "gather", "reference", "cpu"]

WRONG = {
    "norm": [3, ["batch"], True, object(), nn.BatchNorm1d, "nope"],
    "activation": [3, True, ["relu"], nn.ReLU, "nope"],
    "message_kwargs": [5, "x", ["a"], {1: 2}, {"nope": 1}],
    "aggr_kwargs": [5, "x", {1: 2}, {"nope": 1}],
    "generator": [3, "x", True],
    "squeeze_excitation": ["x", 2.5, True, 0, -1],
    "residual": ["no", 2, None],
    "bias": ["no", 2, None],
    "order": ["x", 3, None],
    "aggr": [3, None, "nope", object(), []],
    "message": [3, None, "nope", object],
    "backend": [3, None, "nope"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_an_argument_is_refused_in_one_line(name, value):
    with pytest.raises(InputError) as error:
        RelationalLinear(GRAPH, 16, 16, **{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, 3, "x", [1.0, 2.0], np.ones((4, 16))], ids=repr)
def test_an_input_that_is_no_tensor_is_refused_in_one_line(value):
    for layer in (RelationalLinear(GRAPH, 16, 16), RelationalConv2d(GRAPH, 16, 16, 3)):
        with pytest.raises(InputError, match="tensor") as error:
            layer(value)
        assert "\n" not in str(error.value)


def test_a_tensor_of_another_layout_is_refused_where_there_is_no_matrix(generator):
    x = torch.randn(4, 16, generator=generator)
    nested = torch.nested.nested_tensor([x[:1], x[1:]], layout=torch.jagged)
    layers = [
        RelationalLinear(GRAPH, 16, 16, aggr="max"),
        RelationalLinear(GRAPH, 16, 16, backend="reference"),
        RelationalConv2d(GRAPH, 16, 16, 3),
    ]
    for layer in layers:
        with pytest.raises(InputError, match=r"not a sparse_coo one: give x\.to_dense\(\)"):
            layer(x.to_sparse())
        with pytest.raises(InputError, match=r"not a nested one: give its rows, x\.values\(\)"):
            layer(nested)
    layer = RelationalLinear(GRAPH, 16, 24)
    with pytest.raises(RuntimeError, match=r"this round takes \(\.\.\., 16\), not \(4, 15\)"):
        layer(x[:, 1:].to_sparse())


def test_a_residual_or_edges_that_are_no_tensor_are_refused(generator):
    x = torch.randn(4, 16, generator=generator)
    layer = RelationalLinear(GRAPH, 16, 16)
    for _ in range(3):  # the later calls with a product that is cached
        with pytest.raises(InputError, match="a residual of a round is a tensor, not 'x'"):
            layer(x, "x")
        layer(x)
    for edges in ("x", [[0], [1]]):
        with pytest.raises(InputError, match="an edge_index is a"):
            GraphRound(16, 4)(x, edges)


@pytest.mark.parametrize("choices", [5, "x", [("a", "b")]])
def test_backend_choices_are_a_dictionary(choices):
    with pytest.raises(InputError, match="a dictionary of shapes to backends"):
        RelationalLinear(GRAPH, 16, 16).backend_choices = choices


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16])
def test_another_dtype_raises_torchs_error(dtype, backend):
    layer = RelationalLinear(GRAPH, 16, 16, backend=backend)
    x = torch.ones(4, 16, dtype=dtype)
    for module in (layer, nn.Linear(16, 16)):
        with pytest.raises(RuntimeError, match=r"dtype|scalar type") as error:
            module(x)
        assert not isinstance(error.value, InputError)


@pytest.mark.parametrize("backend", ["auto", "masked", "gather", "cpu"])
def test_another_device_raises_torchs_error(backend):
    layer = RelationalLinear(GRAPH, 16, 16, backend=backend)
    with pytest.raises(RuntimeError, match="device") as error:
        layer(torch.ones(4, 16, device="meta"))
    assert not isinstance(error.value, InputError)
