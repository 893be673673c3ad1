"""The masked backend: assemble the round's dense matrix, zeros where there is no edge.

Simple, and quick near the complete graph; a sparse graph pays for its zeros.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from mpnn_arch.kernels.plan import RoundPlan, find_plan
from mpnn_arch.kernels.tracing import in_functorch


def dense_weight(weight: Tensor, plan: RoundPlan) -> Tensor:
    """The round's weights laid out as its dense matrix, or its dense kernels.

    Shapes:
        - **weight:** (num_weights, ...)
        - **output:** (C_out, C_in, ...), a view of ``weight`` on the complete graph
    """
    shape = (plan.out_channels, plan.in_channels, *weight.shape[1:])
    if plan.is_complete:
        return weight.view(shape)
    dense = weight.new_zeros(plan.out_channels * plan.in_channels, *weight.shape[1:])
    if torch.compiler.is_compiling():
        index = _constant_index(plan.key, str(plan.device))
        return dense.index_copy(0, index, weight).view(shape)
    if in_functorch():  # which may not write in place
        return dense.index_copy(0, plan.dense_index, weight).view(shape)
    if weight.dim() > 1:
        return dense.index_copy_(0, plan.dense_index, weight).view(shape)
    return dense.scatter_(0, plan.dense_index, weight).view(shape)


@torch.compiler.assume_constant_result
def _constant_index(key: str, device: str) -> Tensor:
    """``dense_index`` while a program is traced: found by name, and made of real numbers."""
    plan = find_plan(key, torch.device(device))
    assert plan is not None
    with _disable_current_modes():
        return plan.dense_index


def block_matmul(x: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u: (B, C_in) -> (B, C_out)."""
    return F.linear(x, dense_weight(weight, plan))


def block_conv2d(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """The same for maps, with (K, K) kernels: (B, C_in, H, W) -> (B, C_out, H', W')."""
    return F.conv2d(x, dense_weight(weight, plan), None, stride, padding, dilation)
