"""The onednn backend: the dense products of ``masked``, always by oneDNN.

    y = x W^T + b,    dx = g W,    dW = g^T x

torch's own CPU product is usually MKL's, which runs at a fraction of the peak on some processors of
other makers, where oneDNN's does not. ``auto`` times it on the complete graph, where there are no
zeros to skip. Convolutions are those of ``masked``, which torch gives to oneDNN already.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mpnn_arch.kernels import masked
from mpnn_arch.kernels.dense import dense_weight, on_edges
from mpnn_arch.kernels.plan import RoundPlan

DTYPES = (torch.float32,)
DIFFERENTIABLE = False
ADDS_BIAS = True

prepare, release = masked.prepare, masked.release
conv2d_forward = masked.conv2d_forward
conv2d_grad_input = masked.conv2d_grad_input
conv2d_grad_weight = masked.conv2d_grad_weight


def unavailable_reason() -> str:
    """Why oneDNN cannot be called here, in one sentence; empty where it can."""
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return ""
    return "this torch has no oneDNN product that can be called; use backend='masked'"


def device_type() -> str:
    """CPU tensors only."""
    return "cpu"


def worth_timing(device: str, kernel: Sequence[int]) -> bool:
    """Not on graphs that lack edges: there ``cpu`` leaves the zeros out."""
    return False


def worth_timing_complete(device: str, kernel: Sequence[int]) -> bool:
    """Products of vectors."""
    return not kernel


def matmul_transposed(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b^T plus a bias, by oneDNN.

    Shapes:
        - **a:** (M, K), **b:** (N, K), of any strides
        - **bias:** (N,) or None
        - **output:** (M, N)
    """
    rows, columns = b.shape
    by_row, by_column = b.stride()
    if not ((by_column == 1 and by_row >= columns) or (by_row == 1 and by_column >= rows)):
        b = b.contiguous()  # oneDNN takes no second factor that overlaps, as windows of a series do
    y: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return y


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None
) -> Tensor:
    """(B, C_in) -> (B, C_out)."""
    return matmul_transposed(x, dense_weight(weight, plan), bias)


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """(B, C_out) -> (B, C_in)."""
    return matmul_transposed(grad, dense_weight(weight, plan).t())


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """(B, C_out), (B, C_in) -> (num_weights,)."""
    return on_edges(matmul_transposed(grad.t(), x.t()), plan)
