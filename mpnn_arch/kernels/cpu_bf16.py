"""Products in bfloat16 by the processor's own instructions (``native/*_bf16.cpp``).

    y_v = sum over u in N(v) of W_vu x_u

Instructions for bfloat16 (AVX512-BF16) multiply two pairs of numbers and add both products to a sum
in float32. A pair is two adjacent channels of a node's share, zero after the last of an odd one; of
a gradient with respect to weights, two adjacent samples or positions. Sums run in a fixed order
inside one tile, the bias is added in float32, and the result is rounded once, to nearest even.
Numbers below float32's normal range count as zero, in operands and in sums.

The same code runs without such instructions, emulated and slower than in float32; the ``cpu``
backend calls it where they are (``NATIVE``), and tests everywhere. Few samples over vectors, which
would leave most of a vector of samples empty, go by rows of weights instead, widened as they are
read; these products need no such instructions (``native/few_bf16.cpp``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.cpu_library import (
    Kernels,
    check_shape,
    conv_numbers,
    error_of,
    misfit,
    require_kernels,
)
from mpnn_arch.kernels.geometry import Pair
from mpnn_arch.kernels.native.pair_tables import PairTables
from mpnn_arch.kernels.native.tables import Tables
from mpnn_arch.kernels.plan import RoundPlan

NATIVE = 1  # what ``Kernels.bf16_products`` is where the processor has the instructions


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None
) -> Tensor:
    """As :func:`mpnn_arch.kernels.cpu.linear_forward`, of bfloat16."""
    kernels = _ready(plan, x, weight)
    check_shape(x, (None, plan.in_channels), "x")
    check_shape(weight, (plan.num_weights,), "weight")
    y = x.new_empty(x.shape[0], plan.out_channels)
    x, weight = _by_rows(x), weight.contiguous()
    bias = _bias(bias, plan)
    _call(
        kernels,
        *_by_rows_or_pairs(kernels, plan, x, "forward"),
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
    )
    return y


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """As :func:`mpnn_arch.kernels.cpu.linear_grad_input`, of bfloat16."""
    kernels = _ready(plan, grad, weight)
    check_shape(grad, (None, plan.out_channels), "grad")
    check_shape(weight, (plan.num_weights,), "weight")
    x = grad.new_empty(grad.shape[0], plan.in_channels)
    grad, weight = _by_rows(grad), weight.contiguous()
    _call(
        kernels,
        *_by_rows_or_pairs(kernels, plan, grad, "grad_input"),
        grad.data_ptr(),
        grad.stride(0),
        grad.shape[0],
        weight.data_ptr(),
        x.data_ptr(),
    )
    return x


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """As :func:`mpnn_arch.kernels.cpu.linear_grad_weight`, of bfloat16."""
    kernels = _ready(plan, grad, x)
    check_shape(x, (None, plan.in_channels), "x")
    check_shape(grad, (x.shape[0], plan.out_channels), "grad")
    if not x.shape[0]:
        return x.new_zeros(plan.num_weights)
    grad, x = _by_rows(grad), _by_rows(x)
    weight = x.new_empty(plan.num_weights)
    _call(
        kernels,
        "few_grad_weight" if are_few(kernels, x) else "linear_grad_weight",
        kernels.tables(plan),
        grad.data_ptr(),
        grad.stride(0),
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
    )
    return weight


def conv2d_forward(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    bias: Tensor | None = None,
) -> Tensor:
    """As :func:`mpnn_arch.kernels.cpu.conv2d_forward`, of bfloat16."""
    kernels = _ready(plan, x, weight)
    check_shape(x, (None, plan.in_channels, None, None), "x")
    check_shape(weight, (plan.num_weights, None, None), "weight")
    geometry = conv_numbers(tuple(x.shape), tuple(weight.shape[1:]), stride, padding, dilation)
    y = x.new_empty(x.shape[0], plan.out_channels, *geometry[3:5])
    if not y.numel():
        return y
    x, weight, bias = x.contiguous(), weight.contiguous(), _bias(bias, plan)
    _call(
        kernels,
        "conv2d_forward",
        kernels.pair_tables(plan),
        ctypes.addressof(geometry),
        x.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
    )
    return y


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: Sequence[int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """As :func:`mpnn_arch.kernels.cpu.conv2d_grad_input`, of bfloat16."""
    kernels = _ready(plan, grad, weight)
    check_shape(weight, (plan.num_weights, None, None), "weight")
    geometry = conv_numbers(tuple(input_size), tuple(weight.shape[1:]), stride, padding, dilation)
    check_shape(grad, (input_size[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return grad.new_zeros(tuple(input_size))
    x = grad.new_empty(tuple(input_size))
    grad, weight = grad.contiguous(), weight.contiguous()
    _call(
        kernels,
        "conv2d_grad_input",
        kernels.pair_tables(plan),
        ctypes.addressof(geometry),
        grad.data_ptr(),
        weight.data_ptr(),
        x.data_ptr(),
    )
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
    """As :func:`mpnn_arch.kernels.cpu.conv2d_grad_weight`, of bfloat16."""
    kernels = _ready(plan, grad, x)
    check_shape(x, (None, plan.in_channels, None, None), "x")
    geometry = conv_numbers(tuple(x.shape), tuple(kernel_size), stride, padding, dilation)
    check_shape(grad, (x.shape[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return x.new_zeros(plan.num_weights, *kernel_size)
    weight = x.new_empty(plan.num_weights, *kernel_size)
    grad, x = grad.contiguous(), x.contiguous()
    _call(
        kernels,
        "conv2d_grad_weight",
        kernels.tables(plan),
        ctypes.addressof(geometry),
        grad.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
    )
    return weight


def are_few(kernels: Kernels, x: Tensor) -> bool:
    """Whether the products of these rows go by rows of weights."""
    return x.dim() == 2 and 0 < x.shape[0] <= kernels.few_samples


def _ready(plan: RoundPlan, first: Tensor, second: Tensor) -> Kernels:
    kernels = require_kernels()
    if not first.dtype is second.dtype is torch.bfloat16:
        raise InputError(
            f"products in bfloat16 need two tensors of bfloat16, these are {first.dtype} and "
            f"{second.dtype}; convert them or use the cpu backend's own functions"
        )
    if not (first.is_cpu and second.is_cpu and plan.source.is_cpu):
        raise misfit(plan, first, second)
    return kernels


def _by_rows_or_pairs(
    kernels: Kernels, plan: RoundPlan, x: Tensor, product: str
) -> tuple[str, Tables | PairTables]:
    """The function of a product with the weights, and the tables that it reads."""
    if are_few(kernels, x):
        return f"few_{product}", kernels.tables(plan)
    return f"linear_{product}", kernels.pair_tables(plan)


def _call(kernels: Kernels, name: str, tables: Tables | PairTables, *arguments: Any) -> None:
    """Call a kernel; ``tables`` are kept meanwhile, as another thread may release the plan's."""
    call = kernels.functions[torch.bfloat16][name]
    failed = call(tables.pointer, *arguments, torch.get_num_threads())
    if failed:
        raise error_of(failed)


def _by_rows(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 else x.contiguous()


def _bias(bias: Tensor | None, plan: RoundPlan) -> Tensor | None:
    if bias is None:
        return None
    check_shape(bias, (plan.out_channels,), "bias")
    return bias.to(torch.bfloat16).contiguous()
