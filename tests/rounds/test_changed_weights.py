"""Weights that were changed after a call: the cached product checks what the first call checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_linear_bn_eval

from mpnn_arch import InputError, RelationalConv2d, RelationalLinear, graphs, to_dense
from mpnn_arch.kernels import cpu

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
BACKENDS = ["auto", "masked", "gather", *(["cpu"] if cpu.is_available() else [])]
LAYERS = {
    "linear": (lambda **kw: RelationalLinear(GRAPH, 16, 24, bias=False, **kw), (5, 16)),
    "conv": (lambda **kw: RelationalConv2d(GRAPH, 16, 24, 3, bias=False, **kw), (2, 16, 5, 5)),
}


def longer(layer: nn.Module) -> None:
    weight = layer.weight
    layer.message_function.weight = nn.Parameter(torch.cat([weight, weight]).detach())


def shorter(layer: nn.Module) -> None:
    layer.weight.data = layer.weight.data[1:]


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "to bfloat16": lambda layer: layer.bfloat16(),
    "to float64": lambda layer: layer.double(),
    "to the meta device": lambda layer: layer.to("meta"),
    "longer": longer,
    "shorter": shorter,
    "a matrix": lambda layer: setattr(
        layer.message_function, "weight", nn.Parameter(layer.dense_weight())
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_mismatch_is_torchs_runtime_error_at_every_call(
    name: str, backend: str, change: str, generator: torch.Generator
) -> None:
    make, shape = LAYERS[name]
    x = torch.randn(shape, generator=generator)
    said = []
    for calls_before in (0, 2):
        layer = make(backend=backend)
        for _ in range(calls_before):
            layer(x)
        CHANGES[change](layer)
        with pytest.raises(RuntimeError) as caught:
            layer(x)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LAYERS)
def test_values_that_changed_are_read(name: str, backend: str, generator: torch.Generator) -> None:
    make, shape = LAYERS[name]
    x = torch.randn(shape, generator=generator)
    layer = make(backend=backend, generator=generator)
    once = layer(x), layer(x)
    layer.weight.data.mul_(2)
    torch.testing.assert_close(layer(x), 2 * once[0])
    every_second = torch.stack([layer.weight, layer.weight], -1).detach()[..., 0]
    layer.weight = nn.Parameter(every_second)  # not contiguous
    torch.testing.assert_close(layer(x), 2 * once[0])


@pytest.mark.parametrize("name", LAYERS)
def test_a_matrix_is_refused_where_it_is_set(name: str) -> None:
    layer = LAYERS[name][0]()
    before = layer.weight
    for kind in (RuntimeError, InputError):
        with pytest.raises(kind, match=r"the weight of this round has shape \(240,.*to_dense"):
            layer.weight = nn.Parameter(layer.dense_weight())
    assert layer.weight is before


def test_torch_does_not_fold_a_norm_into_a_round() -> None:
    layer, norm = RelationalLinear(GRAPH, 16, 24).eval(), nn.BatchNorm1d(24).eval()
    with pytest.raises(InputError, match=r"torch\.nn\.utils\.fusion's, take mpnn_arch\.to_dense"):
        fuse_linear_bn_eval(layer, norm)
    one = fuse_linear_bn_eval(to_dense(layer), norm)
    x = torch.randn(5, 16)
    torch.testing.assert_close(one(x), norm(layer(x)))


def test_blocks_of_a_pruned_round_are_those_of_its_weights_now():
    layer = RelationalLinear("ring:4,2", 8, 8)
    prune.l1_unstructured(layer.message_function, "weight", 0.5)
    with torch.no_grad():
        layer.message_function.weight_orig.fill_(1.0)
    assert layer.message_function.edge_blocks().sum() == layer.plan.num_weights / 2


def test_a_tensor_in_the_place_of_the_parameter_names_what_functional_call_takes(generator):
    layer, x = RelationalLinear(GRAPH, 16, 24), torch.randn(2, 16, generator=generator)
    weight, before = torch.zeros_like(layer.weight), layer(x)
    for given in ({"weight": weight}, {"bias": layer.bias + 1, "weight": weight}):
        with pytest.raises(InputError, match=r"functional_call its name is 'message_function.w"):
            functional_call(layer, given, (x,))
        assert torch.equal(layer(x), before)
    out = functional_call(layer, {"message_function.weight": weight}, (x,))
    assert torch.equal(out, layer.bias.expand(2, -1))


def test_a_tensor_in_the_place_of_a_shared_weight_names_it_too():
    layer = RelationalLinear(GRAPH, 16, 24, message="shared_linear")
    with pytest.raises(InputError, match=r"functional_call its name is 'message_function.w"):
        functional_call(layer, {"weight": torch.zeros_like(layer.weight)}, (torch.ones(2, 16),))
