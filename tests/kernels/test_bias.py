"""A bias is added before a sum is rounded, by every backend, as `F.linear` and `F.conv2d` do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.kernels import backends, cpu
from mpnn_arch.kernels.block_matmul import block_product

LOW = (torch.bfloat16, torch.float16)
GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
DIRECTED = graphs.RelationalGraph(8, [[0, 1, 2, 3, 6, 0], [1, 2, 3, 4, 2, 5]], directed=True)
LAYERS = {
    "linear": (lambda g, **kw: RelationalLinear(g, 19, 27, **kw), (64, 19)),
    "conv": (
        lambda graph, **kw: RelationalConv2d(graph, 19, 27, 3, padding=1, **kw),
        (9, 19, 8, 7),
    ),
    "pointwise": (lambda graph, **kw: RelationalConv2d(graph, 19, 27, 1, **kw), (9, 19, 8, 7)),
}


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> tuple[object, tuple[int, ...]]:
    return LAYERS[request.param]


def dense(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    weight, bias = layer.dense_weight().to(dtype), layer.bias.to(dtype)
    if x.dim() == 2:
        return F.linear(x.to(dtype), weight, bias)
    return F.conv2d(x.to(dtype), weight, bias, padding=layer.padding)


def large_bias(layer: nn.Module, generator: torch.Generator) -> nn.Module:
    """A bias whose sum with the product has bits that the product alone would have lost."""
    with torch.no_grad():
        layer.bias.normal_(0, 8, generator=generator)
    return layer


@pytest.mark.parametrize("graph", [GRAPH, DIRECTED], ids=["ws_flex", "directed"])
@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("backend", ["masked", "gather", "cpu", "auto"])
def test_low_precision_is_rounded_once(backend, dtype, graph, kind, generator):
    make, shape = kind
    layer = large_bias(make(graph, backend=backend, generator=generator), generator).to(dtype)
    x = torch.randn(shape, generator=generator).to(dtype)
    exact = dense(layer, x, torch.float64)
    twice = dense(layer, x, torch.float64) - layer.bias.view(-1, *[1] * (x.dim() - 2)).double()
    twice = twice.to(dtype) + layer.bias.view(-1, *[1] * (x.dim() - 2))
    once = exact.to(dtype)
    assert (twice != once).double().mean() > 0.05  # the cases tell the two apart
    for out in (layer(x), layer(x), torch.compile(layer, backend="eager")(x)):
        assert (out != once).double().mean() < 0.004  # where a sum in float32 is at a tie


@pytest.mark.parametrize("backend", ["masked", "gather", "auto", "cpu"])
def test_autocast_adds_the_bias_as_torch_does(backend, kind, generator):
    make, shape = kind
    layer = large_bias(make(GRAPH, backend=backend, generator=generator), generator)
    x = torch.randn(shape, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, expected = layer(x), dense(layer, x, torch.bfloat16)
    assert out.dtype == torch.bfloat16
    assert (out != expected).double().mean() < 0.004


def test_the_complete_graph_gives_the_bits_of_torch(kind, generator):
    make, shape = kind
    for dtype in (torch.float32, torch.float64, *LOW):
        layer = make(graphs.parse_one("complete:8"), generator=generator).to(dtype)
        x = torch.randn(shape, generator=generator).to(dtype)
        assert torch.equal(layer(x), dense(layer, x, dtype))


@pytest.mark.parametrize("backend", ["masked", "gather", "cpu"])
def test_gradients_of_every_order(backend, kind, generator):
    if reason := backends.unavailable_reason(backend, "cpu", torch.float64):
        pytest.skip(reason)
    layer = kind[0](GRAPH, generator=generator).double()
    shape = (2, *kind[1][1:2], *[3 for _ in kind[1][2:]])
    x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    plan, geometry = layer.plan, layer.message_function.geometry

    def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return block_product(x, weight, plan, geometry, backend, bias).sin()

    parameters = (x, layer.weight, layer.bias)
    fast = {"fast_mode": True, "check_undefined_grad": False}
    assert torch.autograd.gradcheck(product, parameters, check_batched_grad=True, **fast)
    assert torch.autograd.gradgradcheck(product, parameters, **fast)
    bias = layer.bias.detach().requires_grad_()
    alone = block_product(x.detach(), layer.weight.detach(), plan, geometry, backend, bias)
    (grad,) = torch.autograd.grad(alone.square().sum(), bias)
    expected = 2 * dense(layer, x, torch.float64).transpose(0, 1).flatten(1).sum(1)
    torch.testing.assert_close(grad, expected)


@pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())
def test_empty_batches_have_a_bias_too(kind, generator):
    layer = kind[0](GRAPH, backend="cpu", generator=generator)
    out = layer(torch.zeros(0, *kind[1][1:]))
    out.sum().backward()
    assert out.shape[0] == 0
    assert layer.bias.grad.count_nonzero() == 0


def test_a_backend_that_adds_no_bias(kind, generator, monkeypatch):
    """One of a user's own, written for the three products only."""
    from mpnn_arch.kernels import masked

    class Plain:
        DTYPES, DIFFERENTIABLE = None, False
        unavailable_reason = staticmethod(masked.unavailable_reason)
        device_type = staticmethod(masked.device_type)
        worth_timing = staticmethod(masked.worth_timing)
        prepare, release = staticmethod(masked.prepare), staticmethod(masked.release)
        linear_grad_input = staticmethod(masked.linear_grad_input)
        linear_grad_weight = staticmethod(masked.linear_grad_weight)
        conv2d_grad_input = staticmethod(masked.conv2d_grad_input)
        conv2d_grad_weight = staticmethod(masked.conv2d_grad_weight)

        def linear_forward(self, x, weight, plan):
            return masked.linear_forward(x, weight, plan)

        def conv2d_forward(self, x, weight, plan, stride, padding, dilation):
            return masked.conv2d_forward(x, weight, plan, stride, padding, dilation)

    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    monkeypatch.setattr(backends, "_REASONS", dict(backends._REASONS))
    backends.register("plain", Plain())
    layer = kind[0](GRAPH, backend="plain", generator=generator)
    x = torch.randn(kind[1], generator=generator)
    torch.testing.assert_close(layer(x), dense(layer, x, torch.float32))
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((27,), x.numel() / 19))
