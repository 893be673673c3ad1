"""The C++ kernels in bfloat16 and float16: sums in float32, rounded once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from mpnn_arch import RelationalConv2d, RelationalLinear
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.masked import dense_weight
from mpnn_arch.kernels.plan import RoundPlan, make_plan

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())

LOW = (torch.bfloat16, torch.float16)
NODES = 16
GRAPHS = {
    "complete": RelationalGraph(
        NODES, [[i for i in range(NODES) for _ in range(NODES)], [*range(NODES)] * NODES]
    ),
    "ring": RelationalGraph(NODES, [[*range(NODES)], [*range(1, NODES), 0]]),
    "star": RelationalGraph(NODES, [[0] * (NODES - 1), [*range(1, NODES)]]),
    "self-loops": RelationalGraph(NODES, torch.empty(2, 0, dtype=torch.int64)),
    "directed": RelationalGraph(NODES, [[0, 1, 2, 7, 9], [5, 3, 1, 8, 15]], directed=True),
}


def plan_of(name: str, ins: int, outs: int) -> RoundPlan:
    """Ragged: some nodes' shares are larger by one channel."""
    return make_plan(
        GRAPHS[name].edge_index,
        [ins + (i % 3 == 0) for i in range(NODES)],
        [outs + (i % 4 == 1) for i in range(NODES)],
    )


def assert_rounded_once(got: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    """``exact``, in float64, rounded to ``dtype``, up to sums in float32 that lie at a tie."""
    assert got.dtype == dtype
    assert got.shape == exact.shape
    half_a_unit = torch.finfo(dtype).eps / 2 * exact.abs()
    in_float32 = 2e-5 * exact.abs().max()
    assert ((got.double() - exact).abs() <= half_a_unit + in_float32).all()
    far_from_zero = exact.abs() > 0.1 * exact.abs().max()
    assert (got != exact.to(dtype))[far_from_zero].double().mean() < 0.01


def draw(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("ins", "outs", "batch"), [(3, 2, 37), (5, 18, 64), (1, 1, 1)])
def test_linear(name: str, ins: int, outs: int, batch: int, dtype: torch.dtype) -> None:
    plan = plan_of(name, ins, outs)
    x, weight, grad, bias = draw(
        dtype,
        (batch, plan.in_channels),
        (plan.num_weights,),
        (batch, plan.out_channels),
        (plan.out_channels,),
    )
    dense = dense_weight(weight.double(), plan)
    y = F.linear(x.double(), dense, bias.double())
    assert_rounded_once(cpu.linear_forward(x, weight, plan, bias), y, dtype)
    assert_rounded_once(cpu.linear_grad_input(grad, weight, plan), grad.double() @ dense, dtype)
    expected = (grad.double().T @ x.double())[plan.dense_mask]
    assert_rounded_once(cpu.linear_grad_weight(grad, x, plan), expected, dtype)
    both = cpu.linear_grads(grad, x, weight, plan)
    assert torch.equal(both[0], cpu.linear_grad_input(grad, weight, plan))
    assert torch.equal(both[1], cpu.linear_grad_weight(grad, x, plan))


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_conv(name: str, kernel: int, stride: int, dtype: torch.dtype) -> None:
    plan = plan_of(name, 2, 3)
    padding = kernel // 2
    x, weight, bias = draw(
        dtype,
        (3, plan.in_channels, 7, 6),
        (plan.num_weights, kernel, kernel),
        (plan.out_channels,),
    )
    dense = dense_weight(weight.double(), plan)
    y = F.conv2d(x.double(), dense, bias.double(), stride, padding)
    (grad,) = draw(dtype, tuple(y.shape))
    pairs = (stride, stride), (padding, padding), (1, 1)
    assert_rounded_once(cpu.conv2d_forward(x, weight, plan, *pairs, bias), y, dtype)
    dx = conv_grad.conv2d_input(x.shape, dense, grad.double(), *pairs)
    assert_rounded_once(cpu.conv2d_grad_input(grad, weight, plan, x.shape, *pairs), dx, dtype)
    dw = conv_grad.conv2d_weight(x.double(), dense.shape, grad.double(), *pairs)
    got = cpu.conv2d_grad_weight(grad, x, plan, (kernel, kernel), *pairs)
    assert_rounded_once(got, dw[plan.dense_mask], dtype)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_a_batch_without_samples(dtype: torch.dtype) -> None:
    plan = plan_of("ring", 2, 3)
    x, grad = torch.ones(0, plan.in_channels, dtype=dtype), torch.ones(0, plan.out_channels)
    weight = torch.ones(plan.num_weights, dtype=dtype)
    assert cpu.linear_forward(x, weight, plan).shape == (0, plan.out_channels)
    assert not cpu.linear_grad_weight(grad.to(dtype), x, plan).any()


def test_a_sum_past_the_largest_float16_is_infinite() -> None:
    plan = plan_of("complete", 4, 4)
    x = torch.full((2, plan.in_channels), 1e3, dtype=torch.float16)
    weight = torch.full((plan.num_weights,), 1e3, dtype=torch.float16)
    assert cpu.linear_forward(x, weight, plan).isposinf().all()


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_long_sums_are_not_rounded_on_the_way(dtype: torch.dtype) -> None:
    """A running sum of ones in bfloat16 stays at 256, in float16 at 2048."""
    plan = make_plan(torch.tensor([[0], [0]]), [1], [1])
    ones = torch.ones(4096, 1, dtype=dtype)
    assert cpu.linear_grad_weight(ones, ones, plan).item() == 4096


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_two_dtypes_are_refused(dtype: torch.dtype) -> None:
    plan = plan_of("ring", 2, 2)
    x, weight = torch.ones(2, plan.in_channels), torch.ones(plan.num_weights)
    for tensors in ((x.to(dtype), weight), (x, weight.to(dtype))):
        with pytest.raises(InputError, match=str(dtype)):
            cpu.linear_forward(*tensors, plan)


@pytest.mark.parametrize("conv", [False, True])
def test_autocast_selects_the_kernels(conv: bool) -> None:
    """Products in bfloat16, parameters and their gradients in float32."""
    graph, generator = GRAPHS["ring"], torch.Generator().manual_seed(0)
    layer = (
        RelationalConv2d(graph, 35, 41, 3, padding=1, generator=generator, backend="auto")
        if conv
        else RelationalLinear(graph, 35, 41, generator=generator, backend="auto")
    )
    x = torch.randn(5, 35, *([6, 6] if conv else []), generator=generator)
    chosen = {f"bfloat16 cpu 8{' 6 6' if conv else ''}": "cpu"}
    layer.backend_choices = chosen
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    weight, bias = layer.dense_weight().bfloat16(), layer.bias.bfloat16()
    low = x.bfloat16().double()
    exact = (
        F.conv2d(low, weight.double(), bias.double(), padding=1)
        if conv
        else F.linear(low, weight.double(), bias.double())
    )
    assert_rounded_once(y.detach(), exact.detach(), torch.bfloat16)
    y.float().square().mean().backward()
    assert layer.backend_choices == chosen
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_auto_times_the_kernels_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial has them among its candidates, in the dtype of the product."""
    from mpnn_arch.kernels.dispatch import choice

    seen = []

    def time_backends(x: Tensor, weight: Tensor, plan: RoundPlan, names: list[str], *_, **__):  # type: ignore[no-untyped-def]
        seen.append((x.dtype, weight.dtype, tuple(names)))
        return {name: [1.0 if name == "cpu" else 2.0] for name in names}

    monkeypatch.setattr(choice, "time_backends", time_backends)
    monkeypatch.setattr(choice, "recall", lambda key: None)
    monkeypatch.setattr(choice, "remember", lambda *arguments: None)
    layer = RelationalLinear(GRAPHS["star"], 35, 41)
    assert isinstance(layer.picker, Picker)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.ones(5, 35))
    assert seen == [(torch.bfloat16, torch.bfloat16, ("masked", "gather", "cpu"))]
    assert layer.backend_choices == {"bfloat16 cpu 8": "cpu"}
