"""Batch normalisation with the residual and the ReLU that follow it, as one operation.

    y = relu(weight (x - mean) / sqrt(variance + eps) + bias + residual)

The activations of a round are wider than those of a dense layer of equal cost, and past the
processor's caches each of these operations takes as long as its memory traffic. As one, by C++
kernels of the ``cpu`` backend (``native/norm.cpp``), they read and write every number once: maps
channel by channel, vectors a few cache lines of channels at a time.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels import cpu, cpu_library
from mpnn_arch.kernels.dispatch.tracing import is_transformed
from mpnn_arch.kernels.relu import before_relu

# What maps may be of -> what parameters and statistics then are of.
COMPUTED_IN = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
}
_FEWEST_PIXELS = 64  # smaller maps have too few whole vectors
# Of vectors: of fewer numbers torch's operations are called in less time, more rows lie on more
# pages than a processor has addresses of at hand, and those a multiple of this many bytes apart
# fall into few sets of its caches.
_FEWEST_NUMBERS, _MOST_ROWS, _CLASHING_BYTES = 2**19, 640, 2048


def can_normalise(x: Tensor) -> bool:
    """Whether :func:`normalise` takes these maps or vectors and is faster than torch.

    Asked of eager, untransformed tensors.
    """
    if x.dim() == 4:
        large = x.shape[0] > 0 and x.shape[2] * x.shape[3] >= _FEWEST_PIXELS
    else:
        large = (
            x.dim() == 2
            and 1 < x.shape[0] <= _MOST_ROWS
            and x.numel() >= _FEWEST_NUMBERS
            and x.shape[1] * x.itemsize % _CLASHING_BYTES != 0
        )
    return (
        large and x.dtype in COMPUTED_IN and x.is_cpu and x.is_contiguous() and cpu.is_available()
    )


def normalise(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and the mean and the biased variance of every channel over samples and pixels.

    Differentiable any number of times in x, residual, weight and bias; gradients of gradients are
    torch's operations.

    Args:
        x: contiguous, more than one number per channel.
        residual: added before the activation; None for none.
        weight, bias: of every channel; None for 1 and 0.
        eps: added to the variance.
        relu: whether a ReLU follows.

    Shapes:
        - **x**, **residual** and **y:** (B, C) or (B, C, H, W)
        - **weight**, **bias**, **mean** and **variance:** (C,), in float32 if x is in bfloat16,
          whose y is rounded once

    Source: Ioffe, Szegedy, *Batch Normalization*, ICML 2015, algorithm 1.

    Example:
        >>> import torch
        >>> from mpnn_arch.kernels.norm import can_normalise, normalise
        >>> x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> if can_normalise(x):  # where the cpu backend's kernels run
        ...     y, mean, variance = normalise(x, None, None, None, 1e-5, relu=True)
        ...     torch.testing.assert_close(y, torch.nn.BatchNorm2d(3)(x).relu())
    """
    rest = [None if t is None else t.contiguous() for t in (residual, weight, bias)]
    y, mean, variance = _Normalise.apply(x, *rest, eps, relu)  # type: ignore[no-untyped-call]
    return y, mean, variance


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        relu: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.empty_like(x)
        mean, variance, factor = x.new_empty((3, x.shape[1]), dtype=COMPUTED_IN[x.dtype]).unbind()
        maps = _maps(x, weight, bias)
        _run(
            cpu_library.functions_of(x.dtype)["norm_forward"](
                ctypes.addressof(maps), x.data_ptr(), _address(residual), eps, relu,
                y.data_ptr(), mean.data_ptr(), variance.data_ptr(), factor.data_ptr(),
            )
        )  # fmt: skip
        given = (weight, bias, y if relu else None)
        ctx.save_for_backward(x, mean, factor, *(one for one in given if one is not None))
        ctx.given = [one is not None for one in given]
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, mean, factor, *kept = ctx.saved_tensors
        weight, bias, y = [kept.pop(0) if given else None for given in ctx.given]
        needs_x, needs_residual, needs_weight, needs_bias = ctx.needs_input_grad[:4]
        dr: Tensor | None
        if torch.is_grad_enabled() or is_transformed(grad) or type(grad) is not Tensor:
            dx, dr, dw, db = _by_torch(grad, y, x, weight, ctx.eps)
        else:
            grad, dx = grad.contiguous(), torch.empty_like(x)
            dr = torch.empty_like(x) if needs_residual else None
            dw, db = mean.new_empty(2, x.shape[1]).unbind()
            maps = _maps(x, weight, bias)
            _run(
                cpu_library.functions_of(x.dtype)["norm_backward"](
                    ctypes.addressof(maps), grad.data_ptr(), _address(y), x.data_ptr(),
                    mean.data_ptr(), factor.data_ptr(), dx.data_ptr(), _address(dr),
                    dw.data_ptr(), db.data_ptr(),
                )
            )  # fmt: skip
        return (
            dx if needs_x else None,
            dr if needs_residual else None,
            dw if needs_weight else None,
            db if needs_bias else None,
            None,
            None,
        )


def _by_torch(
    grad: Tensor, y: Tensor | None, x: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by torch's operations, which are differentiable and can be transformed."""
    is_map = x.dim() == 4
    over, shape = ((-4, -2, -1), (-1, 1, 1)) if is_map else ((-2,), (-1,))
    dtype = x.dtype
    dr, x = before_relu(grad, y).to(COMPUTED_IN[dtype]), x.to(COMPUTED_IN[dtype])
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    factor = (variance + eps).rsqrt()
    normal = (x - mean) * factor
    dw, db = (dr * normal).sum(over), dr.sum(over)
    scale = factor if weight is None else factor * weight.view(shape)
    rest = dr.mean(over, keepdim=True) + normal * (dr * normal).mean(over, keepdim=True)
    return ((dr - rest) * scale).to(dtype), dr.to(dtype), dw, db


def _maps(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> ctypes.Array[ctypes.c_int64]:
    """``Maps`` of native/norm_numbers.h, of one pixel for vectors; the caller keeps the tensors."""
    batch, channels, *size = x.shape
    numbers = (batch, channels, math.prod(size), torch.get_num_threads())
    return (ctypes.c_int64 * 6)(*numbers, _address(weight) or 0, _address(bias) or 0)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _run(failed: int) -> None:
    if failed:
        raise cpu_library.error_of(failed)
