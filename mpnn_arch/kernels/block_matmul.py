"""One round as one operation: y_v = sum over u in N(v) of W_vu x_u."""

from __future__ import annotations

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import masked
from mpnn_arch.kernels.backends import BACKENDS
from mpnn_arch.kernels.ops import Product, Window, apply
from mpnn_arch.kernels.plan import RoundPlan

Pair = tuple[int, int]


def block_matmul(x: Tensor, weight: Tensor, plan: RoundPlan, backend: str = "gather") -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, ragged shares, any graph.

    Differentiable in x and weight any number of times. On the complete graph every backend is
    ``F.linear``. Under autocast x and weight take its dtype, as for ``F.linear``.

    Args:
        x: what the nodes hold, side by side.
        weight: the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`.
        plan: where shares and weights lie.
        backend: ``"masked"``, ``"gather"``, ``"cpu"`` or ``"triton"``.

    Shapes:
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **output:** (B, C_out)

    Raises:
        InputError: a shape, dtype, device or backend that does not fit.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, Equation 1.
    """
    _check(x, weight, plan, backend, spatial_dims=0)
    x, weight = autocast(x, weight)
    if backend == "masked" or plan.is_complete or _in_functorch():
        return masked.block_matmul(x, weight, plan)
    return apply(x, weight, Product(plan, backend))


def block_conv2d(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    backend: str = "gather",
) -> Tensor:
    """The same with a convolution for every product: y_v = sum over u in N(v) of W_vu * x_u.

    Args:
        x: stacks of maps.
        weight: the K x K kernels of every W_vu.
        plan: where shares and weights lie.
        stride, padding, dilation: (height, width), as for ``F.conv2d``.
        backend: as for :func:`block_matmul`.

    Shapes:
        - **x:** (B, C_in, H, W)
        - **weight:** (num_weights, K, K)
        - **output:** (B, C_out, H', W')

    Raises:
        InputError: a shape, dtype, device or backend that does not fit.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.
    """
    _check(x, weight, plan, backend, spatial_dims=2)
    x, weight = autocast(x, weight)
    if backend == "masked" or plan.is_complete or _in_functorch():
        return masked.block_conv2d(x, weight, plan, stride, padding, dilation)
    return apply(x, weight, Product(plan, backend, Window(stride, padding, dilation)))


def autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in autocast's dtype where it is on for their device; float64 stays, as in torch."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or torch.float64 in (x.dtype, weight.dtype):
        return x, weight
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype)


def _in_functorch() -> bool:
    """Whether ``torch.func`` transforms us: vmap and jvp know plain torch and not our kernels."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _check(x: Tensor, weight: Tensor, plan: RoundPlan, backend: str, spatial_dims: int) -> None:
    if backend not in BACKENDS:
        raise InputError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if x.dim() != 2 + spatial_dims or x.shape[1] != plan.in_channels:
        space = ", H, W" if spatial_dims else ""
        raise InputError(f"x has shape (B, {plan.in_channels}{space}), not {tuple(x.shape)}")
    if weight.dim() != 1 + spatial_dims or weight.shape[0] != plan.num_weights:
        space = ", K, K" if spatial_dims else ""
        raise InputError(
            f"the weights of this plan have shape ({plan.num_weights}{space}), "
            f"not {tuple(weight.shape)}"
        )
    if x.device != weight.device:
        raise InputError(f"x lies on {x.device} and the weights on {weight.device}; move one")
