"""Rounds that pass messages under torch's tools, beside the fused ones of ``tests/kernels``."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from mpnn_arch import InputError, RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.rounds.aggregations import aggregations
from mpnn_arch.rounds.messages import message_functions

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
# PyG's quantiles count the messages of every node in Python, for one batch.
QUANTILES = {"median", "quantile"}


def linear(**arguments):
    return lambda **more: RelationalLinear(GRAPH, 16, 16, **arguments, **more)


def conv(message):
    return lambda **more: RelationalConv2d(GRAPH, 16, 24, 3, message=message, **more)


LAYERS = {
    **{f"aggr {name}": (linear(aggr=name), (5, 16)) for name in aggregations},
    "aggr mean+max": (linear(aggr="mean+max"), (5, 16)),
    **{
        f"message {name}": (conv(name), (5, 16, 6, 5))
        if message_functions.get(name).vectors_instead
        else (linear(message=name), (5, 16))
        for name in message_functions
    },
}
EVERY = pytest.mark.parametrize("name", LAYERS)


@EVERY
def test_an_empty_batch(name):
    make, shape = LAYERS[name]
    x = torch.zeros(0, *shape[1:], requires_grad=True)
    layer = make()
    out = layer(x)
    assert out.shape[:2] == (0, layer.out_channels)
    out.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", [name for name in LAYERS if name.split()[1] not in QUANTILES])
def test_it_is_exported_for_every_size_of_a_batch(name, generator):
    make, shape = LAYERS[name]
    layer, x = make(generator=generator), torch.randn(shape, generator=generator)
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(layer, (x,), dynamic_shapes=sizes)
    for size in (2, 5, 11):
        given = torch.randn(size, *shape[1:], generator=generator)
        torch.testing.assert_close(program.module()(given), layer(given))


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize(
    "name", ["aggr power-mean", "aggr softmax", "aggr mean+max", "message shared_attention"]
)
def test_gradients_of_every_sample(name, chunks, generator, monkeypatch):
    make, shape = LAYERS[name]
    if chunks:
        monkeypatch.setattr(RelationalLinear, "max_message_elements", 20)
    layer, x = make(generator=generator), torch.randn(shape, generator=generator)
    parameters = {key: value.detach() for key, value in layer.named_parameters()}

    def loss(parameters, x):
        return functional_call(layer, parameters, (x[None],)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        layer.zero_grad()
        layer(sample[None]).square().sum().backward()
        for key, value in layer.named_parameters():
            torch.testing.assert_close(found[key][i], value.grad)


@pytest.mark.parametrize("name", ["aggr mul", "aggr power-mean", "message shared_attention"])
def test_an_ensemble_in_one_call(name, generator):
    make, shape = LAYERS[name]
    layers, x = [make(), make(), make()], torch.randn(shape, generator=generator)
    state = stack_module_state(layers)
    base = copy.deepcopy(layers[0])
    out = vmap(lambda *state: functional_call(base, state, (x,)))(*state)
    torch.testing.assert_close(out, torch.stack([layer(x) for layer in layers]))


@pytest.mark.parametrize("name", ["aggr mul", "aggr power-mean"])
def test_a_second_derivative(name, generator):
    layer = LAYERS[name][0](generator=generator, dtype=torch.float64)
    x = torch.rand(1, 16, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: layer(x).sin(), (x,), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in LAYERS if LAYERS[name][1] == (5, 16)])
def test_a_forward_mode_derivative_is_right_or_refused(name, generator):
    layer = LAYERS[name][0](generator=generator, dtype=torch.float64)
    x = torch.randn(5, 16, generator=generator, dtype=torch.float64)
    if name == "aggr mul":
        with pytest.raises(InputError, match="use reverse mode"):
            torch.func.jvp(layer, (x,), (torch.ones_like(x),))
        return
    _, found = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    step = 1e-6
    by_difference = (layer(x + step) - layer(x - step)) / (2 * step)
    torch.testing.assert_close(found, by_difference, rtol=1e-3, atol=1e-4)
