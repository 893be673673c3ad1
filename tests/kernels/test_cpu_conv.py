"""The C++ kernels over maps against the dense convolution with the same weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.masked import dense_weight
from mpnn_arch.kernels.plan import RoundPlan, make_plan

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())

TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-12}
ONE = (1, 1)


def plan_of(ins: int = 2, outs: int = 3, nodes: int = 9) -> RoundPlan:
    """A directed ring with chords, ragged shares."""
    edges = [[i, (i * i + 1) % nodes] for i in range(nodes)] + [[i, i - 1] for i in range(1, nodes)]
    graph = RelationalGraph(nodes, torch.tensor(edges).T, directed=True)
    return make_plan(
        graph.edge_index,
        [ins + (i % 3 == 0) for i in range(nodes)],
        [outs + (i % 4 == 1) for i in range(nodes)],
    )


def compare(
    plan: RoundPlan,
    size: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = ONE,
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = ONE,
    dtype: torch.dtype = torch.float32,
) -> None:
    generator = torch.Generator().manual_seed(0)
    batch, *maps = size
    x = torch.randn(batch, plan.in_channels, *maps, generator=generator, dtype=dtype)
    weight = torch.randn(plan.num_weights, *kernel, generator=generator, dtype=dtype)
    dense = dense_weight(weight, plan)
    x.requires_grad_()
    dense.requires_grad_()
    y = F.conv2d(x, dense, None, stride, padding, dilation)
    grad = torch.randn(y.shape, generator=generator, dtype=dtype)
    dx, dw = torch.autograd.grad(y, [x, dense], grad)
    geometry = stride, padding, dilation
    x = x.detach()
    for got, expected in (
        (cpu.conv2d_forward(x, weight, plan, *geometry), y.detach()),
        (cpu.conv2d_grad_input(grad, weight, plan, x.shape, *geometry), dx),
        (cpu.conv2d_grad_weight(grad, x, plan, kernel, *geometry), dw[plan.dense_mask]),
    ):
        assert got.shape == expected.shape
        scale = max(float(expected.abs().max()), 1.0) if expected.numel() else 1.0
        torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_kernels_and_strides(kernel: int, stride: int, dtype: torch.dtype) -> None:
    for padding in (0, kernel // 2):
        compare(plan_of(), (3, 9, 12), (kernel,) * 2, (stride,) * 2, (padding,) * 2, dtype=dtype)
    compare(plan_of(7, 9), (2, 8, 8), (kernel,) * 2, (stride,) * 2, (kernel // 2,) * 2, dtype=dtype)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((3, 3), (1, 1), (2, 2), (2, 2)),
        ((3, 3), (2, 2), (1, 1), (2, 2)),
        ((3, 3), (3, 3), (4, 4), (1, 1)),
        ((1, 1), (3, 3), (0, 0), (1, 1)),
        ((2, 2), (2, 2), (0, 0), (1, 1)),
        ((1, 3), (1, 2), (0, 1), (1, 1)),
        ((5, 1), (2, 1), (2, 0), (1, 3)),
        ((4, 4), (2, 3), (3, 1), (3, 2)),
        ((7, 7), (2, 2), (3, 3), (1, 1)),
        ((2, 4), (1, 1), (0, 20), (1, 9)),
        ((1, 1), (1, 1), (2, 1), (1, 1)),
        ((3, 1), (1, 1), (1, 0), (1, 1)),
    ],
)
def test_geometries(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    compare(plan_of(), (2, 11, 14), kernel, stride, padding, dilation, torch.float64)


@pytest.mark.parametrize("batch", [0, 1, 2, 5, 33])
def test_batches(batch: int) -> None:
    compare(plan_of(), (batch, 7, 7), (3, 3), padding=ONE)
    compare(plan_of(), (batch, 4, 4), (1, 1))
    compare(plan_of(), (batch, 16, 12), (1, 1))
    compare(plan_of(), (batch, 5, 16), (3, 1), padding=(1, 0))


@pytest.mark.parametrize("size", [(14, 14), (16, 16), (8, 8), (9, 32), (41, 3), (3, 41), (13, 7)])
def test_sizes(size: tuple[int, int]) -> None:
    """Whole vectors per row, per image or neither; images one by one or as one line."""
    for kernel in (1, 3):
        compare(plan_of(), (7, *size), (kernel,) * 2, padding=(kernel // 2,) * 2)
        compare(plan_of(), (7, *size), (kernel,) * 2, (2, 2), (kernel // 2,) * 2)


@pytest.mark.parametrize("share", [1, 2, 3, 7, 8, 9, 31])
def test_shares(share: int) -> None:
    compare(plan_of(share, share), (2, 6, 5), (3, 3), padding=ONE)


def test_maps_larger_than_a_cache() -> None:
    compare(plan_of(9, 9), (5, 80, 70), (3, 3), padding=ONE, dtype=torch.float64)
    compare(plan_of(9, 9), (5, 80, 70), (3, 3), (2, 2), ONE, dtype=torch.float64)


def test_numbers_outside_a_kernel_window_do_not_enter() -> None:
    """Vectors extend past rows, maps and channels; a NaN there must not spread."""
    nodes = [0, 1, 2]
    graph = RelationalGraph(3, [[i for i in nodes for _ in nodes], nodes * 3])
    plan = make_plan(graph.edge_index, [2, 2, 2], [2, 2, 2])
    weight = torch.ones(plan.num_weights, 3, 3)
    dense = dense_weight(weight, plan)
    for size, stride in ((7, ONE), (8, ONE), (9, (2, 2))):
        x = torch.zeros(3, plan.in_channels, size, size, requires_grad=True)
        with torch.no_grad():
            x[1, 3, 0, size - 1] = x[1, 3, size - 1, 0] = torch.nan
        geometry = stride, ONE, ONE
        y = F.conv2d(x, dense, None, *geometry)
        grad = y.detach().clone()
        dx = torch.autograd.grad(y, x, grad)[0]
        got = cpu.conv2d_forward(x.detach(), weight, plan, *geometry)
        assert torch.equal(got.isnan(), y.isnan())
        got = cpu.conv2d_grad_input(grad, weight, plan, x.shape, *geometry)
        assert torch.equal(got.isnan(), dx.isnan())
        got = cpu.conv2d_grad_weight(torch.ones_like(grad), x.detach(), plan, (3, 3), *geometry)
        columns = got.view(plan.out_channels, plan.in_channels, 9)
        assert columns[:, 3].isnan().any()
        assert columns[:, [0, 1, 2, 4, 5]].isfinite().all()


def test_one_pixel() -> None:
    compare(plan_of(), (3, 1, 1), (3, 3), padding=ONE)
    compare(plan_of(), (3, 1, 1), (1, 1), stride=(2, 2))


def test_channels_last() -> None:
    plan = plan_of()
    x, weight = torch.randn(2, plan.in_channels, 6, 6), torch.randn(plan.num_weights, 3, 3)
    y = cpu.conv2d_forward(x, weight, plan, ONE, ONE, ONE)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(cpu.conv2d_forward(last, weight, plan, ONE, ONE, ONE), y)
    spread = torch.stack([y, y], dim=-1)[..., 0]
    assert torch.equal(
        cpu.conv2d_grad_weight(spread, last, plan, (3, 3), ONE, ONE, ONE),
        cpu.conv2d_grad_weight(y, x, plan, (3, 3), ONE, ONE, ONE),
    )


def test_kernel_too_large() -> None:
    plan = plan_of()
    x, weight = torch.ones(1, plan.in_channels, 2, 2), torch.ones(plan.num_weights, 3, 3)
    with pytest.raises(InputError, match="does not fit"):
        cpu.conv2d_forward(x, weight, plan, ONE, (0, 0), ONE)
