"""Norm, residual and ReLU over maps and vectors as one operation, against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.norm import can_normalise, normalise

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason="no C++ compiler")

# Whole vectors, parts of one, one image, one channel, one pixel. Several vectors of channels and a
# rest, and more rows than are added up at once.
SHAPES = [
    (4, 3, 5, 5), (2, 7, 16, 16), (16, 5, 1, 1), (3, 2, 7, 9), (5, 1, 4, 4), (1, 6, 3, 40),
    (2, 3), (9, 64), (70, 151), (130, 1), (700, 37),
]  # fmt: skip


def over(x: Tensor) -> tuple[int, ...]:
    """All dimensions but that of the channels."""
    return (0, *range(2, x.dim()))


def parts(
    shape: tuple[int, ...], dtype: torch.dtype, residual: bool, affine: bool
) -> tuple[Tensor, Tensor | None, nn.BatchNorm1d | nn.BatchNorm2d]:
    generator = torch.Generator().manual_seed(0)

    def numbers(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=dtype)

    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    norm = kind(shape[1], affine=affine, dtype=dtype)
    if affine:
        norm.weight.data, norm.bias.data = numbers(shape[1]), numbers(shape[1])
    x = (3 * numbers(*shape) + 20).requires_grad_()  # far from 0, where sums of squares cancel
    return x, numbers(*shape).requires_grad_() if residual else None, norm


def by_torch(x: Tensor, residual: Tensor | None, norm: nn.Module, relu: bool) -> Tensor:
    y: Tensor = norm(x)
    y = y if residual is None else y + residual
    return y.relu() if relu else y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_torchs(
    shape: tuple[int, ...], residual: bool, relu: bool, dtype: torch.dtype
) -> None:
    for affine in (True, False):
        x, added, norm = parts(shape, dtype, residual, affine)
        y, mean, variance = normalise(x, added, norm.weight, norm.bias, norm.eps, relu)
        expected = by_torch(x, added, norm, relu)
        loose = {"rtol": 1e-4, "atol": 2e-4} if dtype is torch.float32 else {}
        torch.testing.assert_close(y, expected, **loose)
        exact = x.detach().double()
        torch.testing.assert_close(mean.double(), exact.mean(over(x)), rtol=1e-6, atol=1e-6)
        spread = exact.var(over(x), correction=0)
        torch.testing.assert_close(variance.double(), spread, rtol=1e-5, atol=1e-5)
        given = [t for t in (x, added, *norm.parameters()) if t is not None]
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
        # Within rounding of 0, ReLU's gradient is a matter of luck.
        grad[expected.detach().abs() < 1e-4] = 0
        ours = torch.autograd.grad(y, given, grad)
        theirs = torch.autograd.grad(expected, given, grad)
        for first, second in zip(ours, theirs, strict=True):
            torch.testing.assert_close(first, second, **loose)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_is_computed_in_float32_and_rounded_once(
    shape: tuple[int, ...], residual: bool, relu: bool
) -> None:
    x, added, norm = parts(shape, torch.float32, residual, True)
    low = [None if t is None else t.detach().bfloat16().requires_grad_() for t in (x, added)]
    exact = [None if t is None else t.detach().double().requires_grad_() for t in low]
    y, mean, variance = normalise(*low, norm.weight, norm.bias, norm.eps, relu)  # type: ignore[arg-type]
    assert (y.dtype, mean.dtype, variance.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    wide = copy.deepcopy(norm).double()
    expected = by_torch(*exact, wide, relu)  # type: ignore[arg-type]
    half_a_unit = torch.finfo(torch.bfloat16).eps / 2 * expected.abs()
    assert ((y.double() - expected).abs() <= half_a_unit + 2e-4).all()
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    grad[expected.detach().abs() < 1e-3] = 0  # where ReLU's gradient is a matter of luck
    ours = torch.autograd.grad(y, [t for t in (*low, *norm.parameters()) if t is not None], grad)
    given = [t for t in (*exact, *wide.parameters()) if t is not None]
    for first, second in zip(
        ours, torch.autograd.grad(expected, given, grad.double()), strict=True
    ):
        loose = torch.finfo(first.dtype).eps / 2 * second.abs()
        assert ((first.double() - second).abs() <= loose + 1e-3 * second.abs().max() + 1e-4).all()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (5, 4)])
def test_gradients_of_gradients(shape: tuple[int, ...], residual: bool, relu: bool) -> None:
    x, added, norm = parts(shape, torch.float64, residual, True)
    given = [t for t in (x, norm.weight, norm.bias, added) if t is not None]

    def run(x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None = None) -> Tensor:
        return normalise(x, added, weight, bias, 1e-5, relu)[0]

    assert torch.autograd.gradcheck(run, given)
    assert torch.autograd.gradcheck(run, given, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, given)


@pytest.mark.parametrize("shape", [(3, 7, 9, 11), (67, 300)])
def test_threads_change_no_bit(shape: tuple[int, ...]) -> None:
    x, added, norm = parts(shape, torch.float32, True, True)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y, *moments = normalise(x, added, norm.weight, norm.bias, norm.eps, True)
            given = [x, added, norm.weight, norm.bias]
            results.append([y, *moments, *torch.autograd.grad(y, given, grad)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (5, 3)])
def test_nan_spreads_as_in_torch(shape: tuple[int, ...]) -> None:
    x, _, norm = parts(shape, torch.float64, False, True)
    with torch.no_grad():
        x[0, 1] = torch.nan
    y = normalise(x, None, norm.weight, norm.bias, norm.eps, True)[0]
    expected = by_torch(x, None, norm, True)
    torch.testing.assert_close(y, expected, equal_nan=True)
    pairs = (torch.autograd.grad(z.sum(), [x, norm.weight]) for z in (y, expected))
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second, equal_nan=True)


def test_maps_and_vectors_that_it_does_not_take() -> None:
    x, rows = torch.zeros(2, 3, 8, 8), torch.zeros(512, 1100)
    assert can_normalise(x)
    assert can_normalise(rows)
    for other in (
        rows[0],
        rows[:1],
        rows[:400],  # too few numbers to gain
        torch.zeros(700, 1100),  # too many rows
        torch.zeros(512, 1024),  # too many in a set of a cache
        rows.t(),
        rows.half(),
        x[:, :, 0],
        x.half(),
        x.to(memory_format=torch.channels_last),
        x[:0],
        x[:, :, :7].contiguous(),
        x.to("meta"),
    ):
        assert not can_normalise(other)
