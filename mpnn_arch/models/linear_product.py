"""A model's dense linear layers, each on the quickest of torch's, oneDNN's and our own product.

    y = x W^T + b

A linear layer is the round of a graph with one node, and its product is selected as that of any
round on a complete graph: by a timed trial, see :mod:`mpnn_arch.kernels.dispatch.choice`.

The layer stays a module of type ``nn.Linear``, since quantisers, counters of operations and tracers
look for exactly that type and ignore subclasses. It has one more attribute, ``picker``, which
selects and caches, and models call it by :func:`linear_product`. A call of the layer itself is
torch's product.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from mpnn_arch.kernels import backends
from mpnn_arch.kernels.dispatch.choice import is_small
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.dispatch.tracing import PLAIN_TYPES, is_plain, is_watched
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.kernels.product import Product

_torch = backends.get(backends.PLAIN)


def add_picker(layer: nn.Linear, backend: str = "auto") -> nn.Linear:
    """Let :func:`linear_product` select the layer's product.

    Args:
        layer: changed in place: it gets the attribute ``picker``.
        backend: ``"auto"``; with any other, every dense layer is torch's product.

    Returns:
        The layer.

    Raises:
        InputError: an unknown backend.
    """
    picker = Picker(backends.PLAIN if backend == "reference" else backend)
    cast(Any, layer).picker = picker
    return layer


def linear_product(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, of a linear layer with a picker by the product that this one selects.

    Only a product of float32 vectors on the CPU, large enough to be worth timing, is selected. It
    is ``layer(x)`` for any other layer and input, and wherever the call has to be seen: under
    tracing, compilation, transforms, modes and autocast, and while the layer has hooks,
    parametrisations or a forward function of its own.

    Args:
        layer: any module of one input.
        x: its input.

    Shapes:
        - **x:** (..., C_in)
        - **output:** (..., C_out)

    Raises:
        RuntimeError: torch's own, where the input does not fit the layer.

    Example:
        >>> import torch
        >>> from mpnn_arch.models.linear_product import add_picker, linear_product
        >>> layer = add_picker(torch.nn.Linear(256, 512))
        >>> x = torch.randn(64, 256)
        >>> torch.testing.assert_close(linear_product(layer, x), layer(x))
        >>> list(layer.picker.choices)
        ['float32 cpu 64']
    """
    product = None if torch.compiler.is_compiling() else _selected(layer, x)
    if product is None:
        return cast(Tensor, layer(x))
    linear = cast(nn.Linear, layer)
    y = product(x.reshape(-1, x.shape[-1]), linear.weight.view(-1), linear.bias)
    return y if x.dim() == 2 else y.unflatten(0, x.shape[:-1])


def _selected(layer: nn.Module, x: Tensor) -> Product | None:
    """The product to call instead of the layer; None where that is torch's anyway."""
    picker = layer.__dict__.get("picker")
    if (
        picker is None
        or picker.backend != "auto"
        or type(layer) is not nn.Linear
        or type(x) is not Tensor
        or not x.is_cpu
        or torch._C._get_tracing_state() is not None  # torch.jit.trace, which sizes would disturb
    ):
        return None
    numbers = x.numel()
    # First what ends the search soonest: most layers are small, or torch's product is the quickest.
    if is_small(numbers * layer.out_features) or x.dim() < 2:
        return None
    shape = (numbers // x.shape[-1], x.shape[-1])
    product = picker.products.get((shape, x.dtype, x.device))
    if product is not None and product.backend is _torch:
        return None
    weight, bias = layer.weight, layer.bias
    if not (is_plain(x, weight) and _fits(x, weight, bias)) or is_watched(layer):
        return None
    if torch._C._len_torch_function_stack():  # something waits for torch's function
        return None
    if product is None:
        plan = _plan(weight.shape[1], weight.shape[0])
        product = picker.prepare(x.reshape(shape), weight.view(-1), plan, None)
    return None if product.backend is _torch else product


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether these are float32 tensors of one device, of shapes that fit."""
    return (
        x.dtype == weight.dtype == torch.float32
        and weight.is_cpu
        and weight.dim() == 2
        and x.shape[-1] == weight.shape[1]
        and weight.is_contiguous()
        and (bias is None or _is_bias(bias, weight))
        and not torch.is_autocast_enabled("cpu")
    )


def _is_bias(bias: Tensor, weight: Tensor) -> bool:
    return (
        type(bias) in PLAIN_TYPES
        and bias.dtype == weight.dtype
        and bias.is_cpu
        and bias.shape == weight.shape[:1]
    )


@lru_cache(maxsize=256)
def _plan(in_features: int, out_features: int) -> RoundPlan:
    """The plan of a graph of one node, which sends all its channels to itself."""
    return make_plan(torch.zeros(2, 1, dtype=torch.int64), [in_features], [out_features])
