"""One round as one operation: y_v = sum over u in N(v) of W_vu x_u."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.backends import BACKENDS
from mpnn_arch.kernels.choice import choose
from mpnn_arch.kernels.ops import Window, run
from mpnn_arch.kernels.picker import Picker
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.tracing import is_plain

Pair = tuple[int, int]
Backend = str | Callable[[Tensor, Tensor, RoundPlan, Window | None], str]


def block_matmul(x: Tensor, weight: Tensor, plan: RoundPlan, backend: Backend = "auto") -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, ragged shares, any graph.

    Differentiable in x and weight any number of times. On the complete graph every backend is
    ``F.linear``. Under autocast x and weight take its dtype, as for ``F.linear``.

    Args:
        x: what the nodes hold, side by side.
        weight: the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`.
        plan: where shares and weights lie.
        backend: ``"masked"``, ``"gather"``, ``"cpu"``, ``"triton"``; ``"auto"`` for the quickest,
            see :mod:`mpnn_arch.kernels.choice`; or what tells one of these from x, weight, plan
            and window, such as a :class:`~mpnn_arch.kernels.picker.Picker`.

    Shapes:
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **output:** (B, C_out)

    Raises:
        InputError: a shape, device or backend that does not fit.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, Equation 1.
    """
    return _product(x, weight, plan, None, backend)


def block_conv2d(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    backend: Backend = "auto",
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
        InputError: a shape, device or backend that does not fit.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.
    """
    return _product(x, weight, plan, Window(stride, padding, dilation), backend)


def _product(
    x: Tensor, weight: Tensor, plan: RoundPlan, window: Window | None, backend: Backend
) -> Tensor:
    _check(x, weight, plan, spatial_dims=2 if window else 0)
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        x, weight = _autocast(x, weight)
    plain = is_plain(x, weight)
    if plain and type(backend) is Picker:
        backend = backend.known(x) or backend(x, weight, plan, window)
    elif not isinstance(backend, str):
        backend = backend(x, weight, plan, window)
    elif backend == "auto":
        backend = choose(x, weight, plan, window).backend
    elif backend not in BACKENDS:
        raise InputError(
            f"there is no backend {backend!r}; choose one of auto, {', '.join(BACKENDS)}"
        )
    return run(x, weight, plan, window, backend, plain)


def _autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in autocast's dtype; float64 stays, as in torch."""
    if torch.float64 in (x.dtype, weight.dtype):
        return x, weight
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype)


def _check(x: Tensor, weight: Tensor, plan: RoundPlan, spatial_dims: int) -> None:
    if x.dim() != 2 + spatial_dims or x.shape[1] != plan.in_channels:
        space = ", H, W" if spatial_dims else ""
        raise InputError(f"x has shape (B, {plan.in_channels}{space}), not {tuple(x.shape)}")
    if weight.dim() != 1 + spatial_dims or weight.shape[0] != plan.num_weights:
        space = ", K, K" if spatial_dims else ","
        raise InputError(
            f"the weights of this plan have shape ({plan.num_weights}{space}), "
            f"not {tuple(weight.shape)}"
        )
    if x.device != weight.device:
        raise InputError(f"x lies on {x.device} and the weights on {weight.device}; move one")
