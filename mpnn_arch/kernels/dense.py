"""A round's weights as one dense matrix, zero where the graph has no edge, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mpnn_arch.kernels.dispatch.tracing import is_transformed, untraced
from mpnn_arch.kernels.memory import require_memory
from mpnn_arch.kernels.plan import RoundPlan, find_plan

_FEW = 2**16  # entries, which fit into any memory


def dense_weight(weight: Tensor, plan: RoundPlan) -> Tensor:
    """The round's weights laid out as its dense matrix, or its dense kernels.

    Shapes:
        - **weight:** (num_weights, ...)
        - **output:** (C_out, C_in, ...), a view of ``weight`` on the complete graph

    Raises:
        InputError: the matrix cannot fit into memory.
    """
    shape = (plan.out_channels, plan.in_channels, *weight.shape[1:])
    if plan.is_complete:
        return weight.view(shape)
    entries = plan.out_channels * plan.in_channels
    compiling = torch.compiler.is_compiling()
    if entries > _FEW and not compiling:
        require_dense(plan, weight.device, math.prod(weight.shape[1:]) * weight.element_size())
    dense = weight.new_zeros(entries, *weight.shape[1:])
    if compiling:
        _make_index(plan.key, str(plan.device))
        return dense.index_copy(0, plan.dense_index, weight).view(shape)
    if is_transformed(weight):  # which may not write in place
        return dense.index_copy(0, plan.dense_index, weight).view(shape)
    if weight.dim() > 1:
        return dense.index_copy_(0, plan.dense_index, weight).view(shape)
    return dense.scatter_(0, plan.dense_index, weight).view(shape)


def on_edges(dense: Tensor, plan: RoundPlan) -> Tensor:
    """The entries of a dense matrix or of dense kernels where the graph has an edge.

    Shapes:
        - **dense:** (C_out, C_in, ...)
        - **output:** (num_weights, ...), a view of ``dense`` on the complete graph
    """
    # `flatten` cannot be batched where a backward pass is, `reshape` can.
    entries = dense.reshape(plan.out_channels * plan.in_channels, *dense.shape[2:])
    return entries if plan.is_complete else entries.index_select(0, plan.dense_index)


def require_dense(plan: RoundPlan, device: torch.device, entry_bytes: int) -> None:
    """Refuse a dense matrix that cannot fit into memory.

    Args:
        plan: of the round.
        device: of the matrix.
        entry_bytes: bytes of one entry, a number or a kernel.

    Raises:
        InputError: it cannot fit; the message gives the number of bytes.
    """
    num_bytes = plan.in_channels * plan.out_channels * entry_bytes
    what = f"the dense matrix of this round, {plan.out_channels} x {plan.in_channels},"
    require_memory(num_bytes, device, what, "use backend='auto', 'cpu' or 'triton'")


@torch.compiler.assume_constant_result
def _make_index(key: str, device: str) -> bool:
    """Make the plan's ``dense_index`` before a traced program reads it, of real numbers.

    A tensor returned from here would be a constant of the program under this function's name, which
    a second layer's would share.
    """
    plan = find_plan(key, torch.device(device))
    assert plan is not None
    with untraced():
        return plan.dense_index.numel() > 0
