"""One round as one operation: y_v = sum over u in N(v) of W_vu x_u."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mpnn_arch.errors import DtypeError, InputError, ShapeError
from mpnn_arch.kernels import backends, gather, masked
from mpnn_arch.kernels.dispatch.choice import choose
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.dispatch.tracing import in_functorch, is_plain, is_traced, jit_tracing
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.kernels.memory import check_maps
from mpnn_arch.kernels.ops import traced_product
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.product import Product, add_bias, differentiable

Backend = str | Callable[[Tensor, Tensor, RoundPlan, ConvGeometry | None], str]


def block_matmul(x: Tensor, weight: Tensor, plan: RoundPlan, backend: Backend = "auto") -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, for shares of any size and any graph.

    Differentiable in x and weight any number of times. On the complete graph every fixed backend is
    ``F.linear``, and so is ``"auto"`` unless another dense product is clearly faster. Under
    autocast x and weight are cast to its dtype, as for ``F.linear``.

    Args:
        x: the nodes' channels, concatenated.
        weight: the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`.
        plan: index tensors of the round.
        backend: ``"masked"``, ``"gather"``, ``"cpu"``, ``"triton"``, ``"onednn"``; ``"auto"`` for
            the fastest, see :mod:`mpnn_arch.kernels.dispatch.choice`; or a function of
            (x, weight, plan, geometry) that returns one of these names, such as a
            :class:`~mpnn_arch.kernels.dispatch.picker.Picker`.

    Shapes:
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **output:** (B, C_out)

    Raises:
        InputError: an invalid shape, device or backend.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, Equation 1.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.kernels.block_matmul import block_matmul
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, bias=False)
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> y = block_matmul(x, layer.weight, layer.plan, backend="gather")
        >>> torch.testing.assert_close(y, x @ layer.dense_weight().T)
    """
    return block_product(x, weight, plan, None, backend)


def block_conv2d(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    backend: Backend = "auto",
) -> Tensor:
    """The same with convolutions as products: y_v = sum over u in N(v) of W_vu * x_u.

    Args:
        x: feature maps.
        weight: the K x K kernels of every W_vu.
        plan: index tensors of the round.
        stride, padding, dilation: (height, width), as for ``F.conv2d``.
        backend: as for :func:`block_matmul`.

    Shapes:
        - **x:** (B, C_in, H, W)
        - **weight:** (num_weights, K, K)
        - **output:** (B, C_out, H', W')

    Raises:
        InputError: an invalid shape, geometry, device or backend.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalConv2d, graphs
        >>> from mpnn_arch.kernels.block_matmul import block_conv2d
        >>> layer = RelationalConv2d(graphs.ring(4, 2), 8, 8, kernel_size=3, bias=False)
        >>> x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
        >>> y = block_conv2d(x, layer.weight, layer.plan, backend="masked")
        >>> torch.testing.assert_close(y, torch.nn.functional.conv2d(x, layer.dense_weight()))
    """
    kernel = tuple(weight.shape[1:]) if weight.dim() == 3 else (1, 1)
    geometry = ConvGeometry.of(kernel, stride, padding, dilation)
    return block_product(x, weight, plan, geometry, backend)


def block_product(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    geometry: ConvGeometry | None,
    backend: Backend,
    bias: Tensor | None = None,
) -> Tensor:
    """:func:`block_matmul` where ``geometry`` is None, else :func:`block_conv2d`; plus a bias.

    ``bias`` is (C_out,) or None. It is added before the sum is rounded to the dtype of x, as by
    ``F.linear`` and ``F.conv2d``.

    The first of these ways that fits the tensors is taken:

    1. nothing to multiply, as kernels need a sample and an edge: torch's operations;
    2. eager tensors, the usual case: a backend's product, without the checks for ``torch.func``;
    3. an ONNX export: standard operators;
    4. torch's product is the choice, or no other may run (the complete graph, where a tracer has it
       as one matrix product; ``torch.func``): torch's operations;
    5. a tracer or dispatch mode, subclasses of tensors, the meta device: a registered operator;
    6. what is left: a backend's product, with all checks.

    Raises:
        DtypeError: a bias of another dtype than x, after autocast.
        InputError: as for :func:`block_matmul`.
    """
    _check(x, weight, plan, geometry)
    if geometry is not None and not (torch.compiler.is_compiling() or jit_tracing()):
        geometry = geometry.within(x.shape[2:])
    if not x.is_meta and _casts(x, weight):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        if bias is not None and bias.dtype != torch.float64:
            bias = bias.to(dtype)
    if bias is not None and bias.dtype != x.dtype:
        raise DtypeError.of_bias(bias.dtype, x.dtype)
    if not is_traced(x, weight) and not (x.numel() and weight.numel()):  # 1
        return masked.product(x, weight, plan, geometry, bias)
    if is_plain(x, weight) and (bias is None or is_plain(x, bias)):  # 2
        if isinstance(backend, Picker):
            return backend.prepare(x, weight, plan, geometry)(x, weight, bias)
        name = _name(x, weight, plan, geometry, backend)
        return Product(plan, backends.get(name), geometry)(x, weight, bias)
    if torch.onnx.is_in_onnx_export():  # 3
        return _standard_operators(x, weight, plan, geometry, bias)
    name = _name(x, weight, plan, geometry, backend)
    # 4. A plan's index tensors never move to the meta device: only an operator accepts the mix.
    if (name == backends.PLAIN and not x.is_meta) or plan.is_complete or in_functorch():
        return masked.product(x, weight, plan, geometry, bias)
    if is_traced(x, weight, *(() if bias is None else (bias,))):  # 5
        return traced_product(x, weight, plan, geometry, name, bias)
    return differentiable(Product(plan, backends.get(name), geometry), x, weight, bias)  # 6


def _standard_operators(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    geometry: ConvGeometry | None,
    bias: Tensor | None,
) -> Tensor:
    """The round in operators that other formats know, sparse where it is a gather and a product."""
    if plan.is_complete or not (geometry is None or geometry.is_pointwise):
        return masked.product(x, weight, plan, geometry, bias)
    if geometry is None:
        y = gather.linear_forward(x, weight, plan)
    else:
        y = gather.conv2d_forward(x, weight, plan, *geometry[1:])
    return y if bias is None else add_bias(y, bias)  # formats know no product of batches and a sum


def _name(
    x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None, backend: Backend
) -> str:
    if not isinstance(backend, str):
        return backend(x, weight, plan, geometry)
    backends.check_name(backend, "auto")
    if backend == "auto":
        return choose(x, weight, plan, geometry).backend
    if plan.is_complete:
        return backends.PLAIN
    if x.dtype.is_complex and (
        reason := backends.unavailable_reason(backend, x.device.type, x.dtype)
    ):
        raise InputError(f"{reason}; use backend={backends.PLAIN!r}")
    return backend


def _casts(x: Tensor, weight: Tensor) -> bool:
    """Whether autocast casts both to its dtype; it keeps float64, as in torch, and integers."""
    return (
        torch.is_autocast_enabled(x.device.type)
        and torch.float64 not in (x.dtype, weight.dtype)
        and x.dtype.is_floating_point
    )


def _raise_as_torch(x: Tensor, weight: Tensor) -> None:
    """Raise torch's own error for tensors of two devices or dtypes, as its layers do."""
    if x.device != weight.device:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but got the input on "
            f"{x.device} and the weights on {weight.device}"
        )
    torch.nn.functional.linear(x.new_empty(1, 1), weight.detach().new_empty(1, 1))
    raise InputError(f"the input is {x.dtype} and the weights are {weight.dtype}; convert one")


def _check(x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None) -> None:
    if jit_tracing():
        return
    spatial_dims = 0 if geometry is None else 2
    if x.dim() != 2 + spatial_dims or x.shape[1] != plan.in_channels:
        space = ", H, W" if spatial_dims else ""
        raise ShapeError(f"x has shape (B, {plan.in_channels}{space}), not {tuple(x.shape)}")
    if weight.dim() != 1 + spatial_dims or weight.shape[0] != plan.num_weights:
        space = ", K, K" if spatial_dims else ","
        raise ShapeError(
            f"the weights of this plan have shape ({plan.num_weights}{space}), "
            f"not {tuple(weight.shape)}"
        )
    if x.device != weight.device or (x.dtype != weight.dtype and not _casts(x, weight)):
        _raise_as_torch(x, weight)
    if geometry is not None and not torch.compiler.is_compiling():
        check_maps(x, geometry, plan.out_channels)
