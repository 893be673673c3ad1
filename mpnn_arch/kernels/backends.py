"""Backends: their protocol, their registry, and which of them support a given tensor."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from mpnn_arch.checks import check_choice
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.geometry import Pair
from mpnn_arch.kernels.plan import RoundPlan


class Backend(Protocol):
    """An implementation of y_v = sum over u in N(v) of W_vu x_u and of its two gradients.

    A module or an object, added by :func:`register`. The three products are plain functions of
    tensors, without autograd: the gradients of each are the other two, so derivatives of any order
    follow. The caller checks shapes.

    A backend may have ``ADDS_BIAS = True``: its forward products then take a last argument
    ``bias``, None or a tensor of x's dtype, which they add before they round, as ``F.linear`` does.
    The bias of other backends is added to the rounded product.

    A backend may have a function ``linear_grads(grad, x, weight, plan, y, for_bias)``: the
    gradients of a round over vectors with respect to x (None if ``weight`` is), W and a bias (None
    unless ``for_bias``) in one call. With ``APPLIES_RELU = True``, its ``linear_forward`` takes a
    further argument ``relu``, whether to return the ReLU of its result, which then is ``y``.

    A backend may have a function ``worth_timing_complete``, with the arguments of ``worth_timing``:
    whether ``auto`` should time it on the complete graph, against the plain dense layer that every
    fixed backend is there.

    A backend may have a function ``step_kernels``, from
    :class:`~mpnn_arch.kernels.dispatch.roofline.RoundSizes` and a ``Machine`` to a list of the
    ``Kernel`` that a forward and backward pass launches. Where timing is not possible, the backend
    of the lowest predicted time is selected, and one without the function comes last.

    Shapes:
        - **x:** (B, C_in), **weight:** (num_weights,), **y**, **grad:** (B, C_out),
          **bias:** (C_out,)
        - over maps (B, C_in, H, W), (num_weights, K, K), (B, C_out, H', W')

    Example:
        >>> from mpnn_arch.kernels import backends
        >>> backends.get("masked").linear_forward.__name__
        'linear_forward'
    """

    @property
    def DTYPES(self) -> tuple[torch.dtype, ...] | None:
        """Supported dtypes; None: all real ones, and complex ones too where ``DIFFERENTIABLE``.

        The gradients of complex numbers are products with conjugates, not the other two products.
        """

    @property
    def DIFFERENTIABLE(self) -> bool:
        """Whether its forward products are torch operations, differentiated by autograd."""

    def unavailable_reason(self) -> str:
        """Why it cannot run on this machine, in one sentence; empty where it can."""

    def device_type(self) -> str | None:
        """The device type it supports; None: any."""

    def worth_timing(self, device: str, kernel: Sequence[int]) -> bool:
        """Whether a trial should time it, for kernels of this size (empty for vectors)."""

    def prepare(self, plan: RoundPlan) -> None:
        """Build the index tables of the products, so that they are not built under tracing."""

    def release(self, plan: RoundPlan) -> None:
        """Drop the tables of the plan; the next product rebuilds them."""

    def linear_forward(self, x: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
        """y from x and W."""

    def linear_grad_input(self, grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
        """The gradient with respect to x, from that with respect to y, and W."""

    def linear_grad_weight(self, grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
        """The gradient with respect to W, from that with respect to y, and x."""

    def conv2d_forward(
        self,
        x: Tensor,
        weight: Tensor,
        plan: RoundPlan,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        """y from x and W over maps."""

    def conv2d_grad_input(
        self,
        grad: Tensor,
        weight: Tensor,
        plan: RoundPlan,
        input_size: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        """The gradient with respect to x, of shape ``input_size`` = (B, C_in, H, W)."""

    def conv2d_grad_weight(
        self,
        grad: Tensor,
        x: Tensor,
        plan: RoundPlan,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        """The gradient with respect to W."""


# name -> the backend, or the module to import on first use
_BACKENDS: dict[str, Backend | str] = {
    name: f"mpnn_arch.kernels.{name}" for name in ("masked", "gather", "cpu", "triton", "onednn")
}

#: The backend of torch operations only, for any device and dtype.
PLAIN = "masked"


def register(name: str, backend: Backend) -> None:
    """Register a custom backend: ``backend=name`` selects it, and ``auto`` times it too.

    Raises:
        InputError: the name is taken.

    Example:
        >>> from mpnn_arch.kernels import backends
        >>> backends.register("masked", backends.get("gather"))
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: there is a backend 'masked' already; choose another name
    """
    if name in (*_BACKENDS, "auto", "reference"):
        raise InputError(f"there is a backend {name!r} already; choose another name")
    _BACKENDS[name] = backend


def names() -> tuple[str, ...]:
    """All backends, in the order in which they are tried.

    Example:
        >>> from mpnn_arch.kernels import backends
        >>> backends.names()[:2]
        ('masked', 'gather')
    """
    return tuple(_BACKENDS)


def get(name: str) -> Backend:
    """The backend called ``name``.

    Raises:
        ImportError: its module cannot be imported on this machine.

    Example:
        >>> import torch
        >>> from mpnn_arch.kernels import backends
        >>> backends.get("masked").device_type() is None  # on every device
        True
    """
    backend = _BACKENDS[name]
    if isinstance(backend, str):
        backend = _BACKENDS[name] = importlib.import_module(backend)  # type: ignore[assignment]
    return backend  # type: ignore[return-value]


def check_name(name: str, *others: str) -> None:
    """Reject a name that is neither a backend nor one of ``others``.

    Raises:
        InputError: an unknown name; the message lists the choices.
    """
    check_choice("backend", name, (*others, *_BACKENDS))


_REASONS: dict[str, str] = {}
_REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@torch.compiler.assume_constant_result  # a tracer cannot follow an import, nor functools.cache
def _limits(name: str) -> tuple[str, str | None, tuple[torch.dtype, ...] | None]:
    """Why a backend cannot run on this machine, else its device type and dtypes."""
    try:
        backend = get(name)
    except ImportError as error:
        _REASONS.setdefault(name, f"the {name} backend cannot be imported: {error}")
    else:
        if name not in _REASONS:
            _REASONS[name] = backend.unavailable_reason()
    reason = _REASONS[name]
    if reason:
        return reason, None, None
    dtypes = backend.DTYPES
    if dtypes is None and not backend.DIFFERENTIABLE:
        dtypes = _REAL
    return "", backend.device_type(), dtypes


def unavailable_reason(backend: str, device: str, dtype: torch.dtype) -> str:
    """Why ``backend`` cannot run on such a tensor here, in one sentence; empty where it can.

    Args:
        backend: a registered name.
        device: a device type, ``"cpu"``, ``"cuda"`` or another of torch. One without kernels of its
            own, as Apple's ``"mps"``, has ``masked`` and ``gather``.
        dtype: of the tensor.

    Example:
        >>> import torch
        >>> from mpnn_arch.kernels import backends
        >>> backends.unavailable_reason("gather", "mps", torch.float32)
        ''
    """
    reason, home, dtypes = _limits(backend)
    reason = reason or _failure(backend, device, dtype)
    if reason:
        return reason
    if dtypes is not None and dtype not in dtypes:
        return f"the {backend} backend has no kernels for {dtype}"
    if home is not None and device != home:
        there = [name for name in _BACKENDS if _limits(name)[:2] in (("", None), ("", device))]
        return (
            f"the {backend} backend runs on {home}, not on {device}, where there are "
            f"{' and '.join(there)}"
        )
    return ""


_FAILURES: dict[tuple[str, str, torch.dtype], str] = {}


@torch.compiler.assume_constant_result
def _failure(name: str, device: str, dtype: torch.dtype) -> str:
    return _FAILURES.get((name, device, dtype), "")


def leave_out(name: str, device: str, dtype: torch.dtype, error: Exception) -> None:
    """Do without a backend for such tensors in this process, where it failed; says so once.

    As Triton does without a C compiler, or for a dtype that an older GPU has no instructions for.
    """
    lines = str(error).strip().splitlines() or [""]
    failure = f"{type(error).__name__}: {lines[-1][:200]}"
    _FAILURES[name, device, dtype] = reason = (
        f"the {name} backend failed for {dtype} on {device} ({failure})"
    )
    warn_once(f"{reason}; 'auto' does without it in this process")


def candidates(device: str, dtype: torch.dtype, kernel: Sequence[int] = ()) -> list[str]:
    """The backends that support such a tensor on this machine and are worth timing.

    Args:
        device: a device type.
        dtype: of the tensor.
        kernel: size of the kernels, for maps.
    """
    return [
        name
        for name in _BACKENDS
        if not unavailable_reason(name, device, dtype) and get(name).worth_timing(device, kernel)
    ]


def complete_candidates(device: str, dtype: torch.dtype, kernel: Sequence[int] = ()) -> list[str]:
    """The same for the complete graph: the plain dense layer, and other dense products."""
    names = [PLAIN]
    for name in _BACKENDS:
        if not unavailable_reason(name, device, dtype):
            worth_timing = getattr(get(name), "worth_timing_complete", None)
            if worth_timing is not None and worth_timing(device, kernel):
                names.append(name)
    return names


@cache
def warn_once(sentence: str) -> None:
    """Issue this warning once per process."""
    warnings.warn(sentence, stacklevel=3)
