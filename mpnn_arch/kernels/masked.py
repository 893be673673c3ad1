"""The masked backend: assemble the round's dense matrix, zeros where there is no edge.

Simple, and fast on nearly complete graphs; on sparse ones it multiplies by many zeros. It consists
of torch operations, and is therefore used under tracing and ``torch.func`` transforms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from mpnn_arch.kernels.dense import dense_weight, on_edges, require_dense
from mpnn_arch.kernels.dispatch.roofline import (
    INDEX_BYTES,
    Kernel,
    Machine,
    RoundSizes,
    dense_products,
)
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.kernels.plan import RoundPlan

DTYPES = None
DIFFERENTIABLE = True
ADDS_BIAS = True


def unavailable_reason() -> str:
    """Empty: it runs on any machine."""
    return ""


def device_type() -> None:
    """None: any device."""


def step_kernels(sizes: RoundSizes, machine: Machine) -> list[Kernel]:
    """Zeros, the weights scattered among them, three dense products, the edges' entries read."""
    scattered = 2 * sizes.weight_bytes + INDEX_BYTES * sizes.weights
    return [
        Kernel(bytes=sizes.dense_bytes),
        Kernel(bytes=scattered),
        *dense_products(sizes, machine),
        Kernel(bytes=scattered),
    ]


def worth_timing(device: str, kernel: Sequence[int]) -> bool:
    """Always."""
    return True


def prepare(plan: RoundPlan) -> None:
    """Build ``dense_index``, unless the round is a plain dense layer.

    Raises:
        InputError: the round's dense matrix cannot fit into memory.
    """
    if not plan.is_complete:
        require_dense(plan, plan.device, 4)  # in float32; the call checks its dtype
        _ = plan.dense_index


def release(plan: RoundPlan) -> None:
    """Drop ``dense_index``; the next product rebuilds it."""
    plan.release_dense_index()


def product(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    geometry: ConvGeometry | None,
    bias: Tensor | None = None,
) -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, plus a bias, over vectors or maps."""
    if geometry is None:
        return linear_forward(x, weight, plan, bias)
    return conv2d_forward(x, weight, plan, *geometry[1:], bias)


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None
) -> Tensor:
    """(B, C_in) -> (B, C_out)."""
    return F.linear(x, dense_weight(weight, plan), bias)


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """(B, C_out) -> (B, C_in)."""
    return grad @ dense_weight(weight, plan)


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """(B, C_out), (B, C_in) -> (num_weights,)."""
    return on_edges(grad.t() @ x, plan)


def conv2d_forward(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    bias: Tensor | None = None,
) -> Tensor:
    """(B, C_in, H, W) -> (B, C_out, H', W')."""
    return F.conv2d(x, dense_weight(weight, plan), bias, stride, padding, dilation)


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """(B, C_out, H', W') -> (B, C_in, H, W)."""
    dense = dense_weight(weight, plan)
    return conv_grad.conv2d_input(input_size, dense, grad, stride, padding, dilation)


def conv2d_grad_weight(
    grad: Tensor,
    x: Tensor,
    plan: RoundPlan,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """(B, C_out, H', W'), (B, C_in, H, W) -> (num_weights, K, K)."""
    size = (plan.out_channels, plan.in_channels, *kernel_size)
    return on_edges(conv_grad.conv2d_weight(x, size, grad, stride, padding, dilation), plan)
