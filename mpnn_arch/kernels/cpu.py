"""The cpu backend: C++ kernels that multiply along the edges only.

    y_v = sum over u in N(v) of W_vu x_u

A register tile accumulates some rows of a node's weights times a few vectors of samples over the
node's fan-in, so the cost is exactly the round's multiply-adds.

A wheel carries the kernels for most processors (``native/prebuilt.py``); elsewhere they are
compiled on first use (``native/build.py``). They run on torch's own threads
(``native/threads.py``). Every sum is computed by one thread in a fixed order, so results are
bit-identical for any number of threads (``torch.get_num_threads``).

float32 and float64 are multiplied as they are. Sums of bfloat16 and float16 are accumulated in
float32, in which the bias is added, and results are rounded once, to nearest even; gradients
likewise. Where the processor multiplies bfloat16 (AVX512-BF16), its instructions do
(``cpu_bf16.py``), at twice the rate of float32; else numbers are widened to float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import cpu_bf16
from mpnn_arch.kernels.cpu_library import (
    DTYPES,
    TABLES,
    check_shape,
    conv_numbers,
    error_of,
    load,
    misfit,
    release_tables,
)
from mpnn_arch.kernels.dispatch.roofline import Kernel, Machine, RoundSizes
from mpnn_arch.kernels.geometry import Pair
from mpnn_arch.kernels.native.tables import Tables
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.relu import before_relu

__all__ = ["ADDS_BIAS", "APPLIES_RELU", "DIFFERENTIABLE", "DTYPES"]

DIFFERENTIABLE = False
ADDS_BIAS = True
APPLIES_RELU = True

_LOW = (torch.bfloat16, torch.float16)
# Samples: up to FEW_FOR_INPUT in native/few_grads.h need no panels, and fewer than 32 would not
# fill those that both gradients read.
_FEW, _TOGETHER = 4, 32


def unavailable_reason() -> str:
    """Why the kernels cannot run here, in one sentence; empty where they can.

    The first call loads them, and compiles them where none are prebuilt or cached; a failure warns
    once and is remembered for the life of the process.
    """
    kernels = load()
    return kernels if isinstance(kernels, str) else ""


def describe() -> str:
    """Which kernels are in use and why, on which threads, and how they multiply bfloat16."""
    kernels = load()
    if isinstance(kernels, str):
        return kernels
    native = kernels.bf16_products == cpu_bf16.NATIVE
    bf16 = "by the processor's instructions" if native else "widened to float32"
    return f"kernels {kernels.origin}; on {kernels.threads}; bfloat16 {bf16}"


def is_available() -> bool:
    """Whether the kernels run here."""
    return not unavailable_reason()


def device_type() -> str:
    """CPU tensors only."""
    return "cpu"


def step_kernels(sizes: RoundSizes, machine: Machine) -> list[Kernel]:
    """One call a product, which computes exactly the multiply-adds along the edges.

    Its tile reaches the same share of the peak as that of a dense product, so it is predicted to be
    faster on every graph that lacks an edge.
    """
    moved = sizes.x_bytes + sizes.y_bytes + sizes.weight_bytes
    tile = "edges conv" if sizes.is_convolution else "edges"
    return [Kernel(products=sizes.products, bytes=moved, tile=tile)] * 3


def worth_timing(device: str, kernel: Sequence[int]) -> bool:
    """Always."""
    return True


def worth_timing_complete(device: str, kernel: Sequence[int]) -> bool:
    """Always."""
    return True


def prepare(plan: RoundPlan) -> None:
    """Nothing: the first product builds its tables in numpy, which tracing does not see."""


def release(plan: RoundPlan) -> None:
    """Drop the plan's tables; the next product rebuilds them."""
    release_tables(plan)


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None, relu: bool = False
) -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, plus a bias, and the ReLU of that.

    Shapes:
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **bias:** (C_out,) or None
        - **output:** (B, C_out)

    Raises:
        InputError: a dtype that is not in ``DTYPES`` or two dtypes, tensors on another device or
            of another shape, or no kernels on this machine.
    """
    if x.dtype in _LOW:
        y = _low(linear_forward, cpu_bf16.linear_forward, x, weight, plan, bias)
        return y.relu_() if relu else y
    call, tables = _ready(plan, x, weight)
    if x.dim() != 2 or x.shape[1] != plan.in_channels or weight.shape != (plan.num_weights,):
        check_shape(x, (None, plan.in_channels), "x")
        check_shape(weight, (plan.num_weights,), "weight")
    x, weight = x if x.stride(1) == 1 else x.contiguous(), weight.contiguous()
    if bias is not None and not (
        bias.dtype is x.dtype
        and bias.shape == (plan.out_channels,)
        and bias.is_contiguous()
        and bias.is_cpu
    ):
        bias = _checked_bias(bias, x, plan)
    y = x.new_empty(x.shape[0], plan.out_channels)
    failed = call["linear_forward"](
        tables.pointer,
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        relu,
        y.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return y


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient with respect to x: g_u = sum over v with u in N(v) of W_vu^T grad_v.

    Shapes:
        - **grad:** (B, C_out)
        - **weight:** (num_weights,)
        - **output:** (B, C_in)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    if grad.dtype in _LOW:
        return _low(linear_grad_input, cpu_bf16.linear_grad_input, grad, weight, plan)
    call, tables = _ready(plan, grad, weight)
    if grad.dim() != 2 or grad.shape[1] != plan.out_channels or weight.shape != (plan.num_weights,):
        check_shape(grad, (None, plan.out_channels), "grad")
        check_shape(weight, (plan.num_weights,), "weight")
    grad, weight = grad if grad.stride(1) == 1 else grad.contiguous(), weight.contiguous()
    x = grad.new_empty(grad.shape[0], plan.in_channels)
    failed = call["linear_grad_input"](
        tables.pointer,
        grad.data_ptr(),
        grad.stride(0),
        grad.shape[0],
        weight.data_ptr(),
        x.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return x


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient with respect to W: on edge u -> v, the sum over samples of grad_v x_u^T.

    Shapes:
        - **grad:** (B, C_out)
        - **x:** (B, C_in)
        - **output:** (num_weights,)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    if grad.dtype in _LOW:
        return _low(linear_grad_weight, cpu_bf16.linear_grad_weight, grad, x, plan)
    if not x.shape[0]:
        check_shape(grad, (0, plan.out_channels), "grad")
        return x.new_zeros(plan.num_weights)
    return linear_grads(grad, x, None, plan)[1]


def linear_grads(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    plan: RoundPlan,
    y: Tensor | None = None,
    for_bias: bool = False,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """The gradients with respect to x, W and a bias at once, for which grad is packed once.

    The bits are those of :func:`linear_grad_input` and :func:`linear_grad_weight`.

    Args:
        grad: the gradient with respect to the results.
        x, weight: the operands; a weight of None if no gradient with respect to x is needed.
        plan: index tensors of the round.
        y: the results, if they are those of a ReLU.
        for_bias: whether the gradient with respect to a bias is needed.

    Shapes:
        - **grad** and **y:** (B, C_out)
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **outputs:** (B, C_in) or None, (num_weights,), (C_out,) or None

    Raises:
        InputError: as :func:`linear_forward`.
    """
    of_one_dtype = grad.dtype is x.dtype and (weight is None or weight.dtype is grad.dtype)
    if grad.dtype in _LOW and of_one_dtype and not _in_bf16(grad):
        weight, y = (None if t is None else t.float() for t in (weight, y))
        wide = linear_grads(grad.float(), x.float(), weight, plan, y, for_bias)
        of_x, of_bias = (None if t is None else t.to(grad.dtype) for t in (wide[0], wide[2]))
        return of_x, wide[1].to(grad.dtype), of_bias
    batch = x.shape[0]
    apart = batch == 0 or (weight is not None and _FEW < batch < _TOGETHER)
    if apart or grad.dtype in _LOW:
        grad = before_relu(grad, y)
        return (
            None if weight is None else linear_grad_input(grad, weight, plan),
            linear_grad_weight(grad, x, plan),
            grad.sum(0) if for_bias else None,
        )
    call, tables = _ready(plan, grad, x)
    check_shape(x, (None, plan.in_channels), "x")
    check_shape(grad, (x.shape[0], plan.out_channels), "grad")
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    x = x if x.stride(1) == 1 else x.contiguous()
    grad_x = None
    if weight is not None:
        _ready(plan, grad, weight)
        check_shape(weight, (plan.num_weights,), "weight")
        weight, grad_x = weight.contiguous(), x.new_empty(x.shape)
    if y is not None:
        _ready(plan, grad, y)
        check_shape(y, tuple(grad.shape), "y")
        y = y.contiguous()
    grad_weight = x.new_empty(plan.num_weights)
    grad_bias = x.new_empty(plan.out_channels) if for_bias else None
    failed = call["linear_grads"](
        tables.pointer,
        grad.data_ptr(),
        grad.stride(0),
        None if y is None else y.data_ptr(),
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        None if weight is None else weight.data_ptr(),
        None if grad_x is None else grad_x.data_ptr(),
        grad_weight.data_ptr(),
        None if grad_bias is None else grad_bias.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return grad_x, grad_weight, grad_bias


def conv2d_forward(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    bias: Tensor | None = None,
) -> Tensor:
    """The same over maps: y_v = sum over u in N(v) of W_vu * x_u, a convolution.

    Shapes:
        - **x:** (B, C_in, H, W)
        - **weight:** (num_weights, K, K)
        - **bias:** (C_out,) or None
        - **output:** (B, C_out, H', W')

    Raises:
        InputError: as :func:`linear_forward`, or a kernel larger than the padded map.
    """
    if x.dtype in _LOW:
        return _low(
            conv2d_forward,
            cpu_bf16.conv2d_forward,
            x,
            weight,
            plan,
            stride,
            padding,
            dilation,
            bias,
        )
    call, tables = _ready(plan, x, weight)
    check_shape(x, (None, plan.in_channels, None, None), "x")
    check_shape(weight, (plan.num_weights, None, None), "weight")
    geometry = conv_numbers(tuple(x.shape), tuple(weight.shape[1:]), stride, padding, dilation)
    y = x.new_empty(x.shape[0], plan.out_channels, *geometry[3:5])
    if not y.numel():
        return y
    x, weight = x.contiguous(), weight.contiguous()
    failed = call["conv2d_forward"](
        tables.pointer,
        ctypes.addressof(geometry),
        x.data_ptr(),
        weight.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return y if bias is None else y.add_(bias.view(-1, 1, 1))


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: Sequence[int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The gradient with respect to x, of shape ``input_size`` = (B, C_in, H, W).

    Shapes:
        - **grad:** (B, C_out, H', W')
        - **weight:** (num_weights, K, K)
        - **output:** (B, C_in, H, W)

    Raises:
        InputError: as :func:`conv2d_forward`.
    """
    if grad.dtype in _LOW:
        return _low(
            conv2d_grad_input,
            cpu_bf16.conv2d_grad_input,
            grad,
            weight,
            plan,
            input_size,
            stride,
            padding,
            dilation,
        )
    call, tables = _ready(plan, grad, weight)
    check_shape(weight, (plan.num_weights, None, None), "weight")
    geometry = conv_numbers(tuple(input_size), tuple(weight.shape[1:]), stride, padding, dilation)
    check_shape(grad, (input_size[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return grad.new_zeros(tuple(input_size))
    x = grad.new_empty(tuple(input_size))
    grad, weight = grad.contiguous(), weight.contiguous()
    failed = call["conv2d_grad_input"](
        tables.pointer,
        ctypes.addressof(geometry),
        grad.data_ptr(),
        weight.data_ptr(),
        x.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return x


def conv2d_grad_weight(
    grad: Tensor,
    x: Tensor,
    plan: RoundPlan,
    kernel_size: Sequence[int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The gradient with respect to the kernels, (num_weights, K, K).

    Shapes:
        - **grad:** (B, C_out, H', W')
        - **x:** (B, C_in, H, W)
        - **output:** (num_weights, K, K)

    Raises:
        InputError: as :func:`conv2d_forward`.
    """
    if grad.dtype in _LOW:
        return _low(
            conv2d_grad_weight,
            cpu_bf16.conv2d_grad_weight,
            grad,
            x,
            plan,
            kernel_size,
            stride,
            padding,
            dilation,
        )
    call, tables = _ready(plan, grad, x)
    check_shape(x, (None, plan.in_channels, None, None), "x")
    geometry = conv_numbers(tuple(x.shape), tuple(kernel_size), stride, padding, dilation)
    check_shape(grad, (x.shape[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return x.new_zeros(plan.num_weights, *kernel_size)
    weight = x.new_empty(plan.num_weights, *kernel_size)
    grad, x = grad.contiguous(), x.contiguous()
    failed = call["conv2d_grad_weight"](
        tables.pointer,
        ctypes.addressof(geometry),
        grad.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return weight


def _checked_bias(bias: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """A bias as the kernels read it: a number for every channel, expanded as torch would."""
    _ready(plan, x, bias)
    return bias.expand(plan.out_channels).contiguous()


def _in_bf16(operand: Tensor) -> bool:
    """Whether a product with this operand is one of ``cpu_bf16``: few rows are on any processor."""
    kernels = load()
    return (
        operand.dtype is torch.bfloat16
        and not isinstance(kernels, str)
        and (kernels.bf16_products == cpu_bf16.NATIVE or cpu_bf16.are_few(kernels, operand))
    )


def _low(
    product: Callable[..., Tensor],
    in_bf16: Callable[..., Tensor],
    first: Tensor,
    second: Tensor,
    plan: RoundPlan,
    *rest: Any,
) -> Tensor:
    """A product of bfloat16 or float16, by the functions for bfloat16 or in float32."""
    if first.dtype is not second.dtype:
        raise misfit(plan, first, second)
    if _in_bf16(first):
        return in_bf16(first, second, plan, *rest)
    wide = (value.float() if isinstance(value, Tensor) else value for value in rest)
    return product(first.float(), second.float(), plan, *wide).to(first.dtype)


def _ready(plan: RoundPlan, first: Tensor, second: Tensor) -> tuple[dict[str, Any], Tables]:
    """The functions for these tensors' dtype, and the plan's tables."""
    kernels, dtype = load(), first.dtype
    if isinstance(kernels, str):
        raise InputError(f"{kernels}; choose another backend")
    if (
        dtype is not second.dtype
        or dtype not in (torch.float32, torch.float64)
        or not (first.is_cpu and second.is_cpu and plan.source.is_cpu)
    ):
        raise misfit(plan, first, second)
    return kernels.functions[dtype], plan.__dict__.get(TABLES) or kernels.tables(plan)
