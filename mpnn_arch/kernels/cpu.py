"""The cpu backend: C++ kernels that multiply along the edges only.

    y_v = sum over u in N(v) of W_vu x_u

A register tile holds some rows of a node's weights times a few vectors of samples and walks the
channels that the node hears; its cost is the round's multiply-adds and no more. The kernels are
compiled on first use (see ``native/build.py``). Every sum is made by one thread in one order, so
the number of threads (``torch.get_num_threads``) does not change a bit.
"""

from __future__ import annotations

import ctypes
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.native.build import BuildError, load_library
from mpnn_arch.kernels.native.tables import tables_of
from mpnn_arch.kernels.plan import RoundPlan

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_P, _I = ctypes.c_void_p, ctypes.c_int64


class _Kernels:
    """The library's functions, typed once."""

    def __init__(self) -> None:
        library = load_library()
        self.places = (library.quad_places_f32(), library.quad_places_f64())
        types = {
            "linear_forward": (_P, _P, _I, _I, _P, _P, _I),
            "linear_grad_input": (_P, _P, _I, _I, _P, _P, _I),
            "linear_grad_weight": (_P, _P, _I, _P, _I, _I, _P, _I),
        }
        self.functions: dict[tuple[str, torch.dtype], Any] = {}
        for name, arguments in types.items():
            for dtype, suffix in _SUFFIX.items():
                function = getattr(library, f"{name}_{suffix}")
                function.argtypes, function.restype = arguments, ctypes.c_int
                self.functions[name, dtype] = function


@cache
def _load() -> _Kernels | str:
    try:
        return _Kernels()
    except BuildError as error:
        reason = f"the cpu backend's kernels could not be compiled here: {error}"
        warnings.warn(f"{reason}; a slower backend takes their place", stacklevel=4)
        return reason


def unavailable_reason() -> str:
    """Why the kernels cannot run here, in one sentence; empty where they can.

    The first call compiles them if this machine has not done so; a failure warns once and is
    remembered for the life of the process.
    """
    kernels = _load()
    return kernels if isinstance(kernels, str) else ""


def is_available() -> bool:
    """Whether the kernels run here."""
    return not unavailable_reason()


def linear_forward(x: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u.

    Shapes:
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **output:** (B, C_out)

    Raises:
        InputError: a dtype other than float32 and float64, tensors off the CPU or of another
            shape, or no kernels on this machine.
    """
    kernels, dtype = _ready(plan, x, weight)
    _check(x, (None, plan.in_channels), "x")
    _check(weight, (plan.num_weights,), "weight")
    x, weight = _rows(x), weight.contiguous()
    y = x.new_empty(x.shape[0], plan.out_channels)
    _run(
        kernels.functions["linear_forward", dtype],
        tables_of(plan, kernels.places).pointer,
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
        y.data_ptr(),
    )
    return y


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient for x: g_u = sum over v with u in N(v) of W_vu^T grad_v.

    Shapes:
        - **grad:** (B, C_out)
        - **weight:** (num_weights,)
        - **output:** (B, C_in)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    kernels, dtype = _ready(plan, grad, weight)
    _check(grad, (None, plan.out_channels), "grad")
    _check(weight, (plan.num_weights,), "weight")
    grad, weight = _rows(grad), weight.contiguous()
    x = grad.new_empty(grad.shape[0], plan.in_channels)
    _run(
        kernels.functions["linear_grad_input", dtype],
        tables_of(plan, kernels.places).pointer,
        grad.data_ptr(),
        grad.stride(0),
        grad.shape[0],
        weight.data_ptr(),
        x.data_ptr(),
    )
    return x


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient for the weights: of the edge u -> v, the sum over samples of grad_v x_u^T.

    Shapes:
        - **grad:** (B, C_out)
        - **x:** (B, C_in)
        - **output:** (num_weights,)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    kernels, dtype = _ready(plan, grad, x)
    _check(x, (None, plan.in_channels), "x")
    _check(grad, (x.shape[0], plan.out_channels), "grad")
    if not x.shape[0]:
        return x.new_zeros(plan.num_weights)
    grad, x = _rows(grad), _rows(x)
    weight = x.new_empty(plan.num_weights)
    _run(
        kernels.functions["linear_grad_weight", dtype],
        tables_of(plan, kernels.places).pointer,
        grad.data_ptr(),
        grad.stride(0),
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
    )
    return weight


def _run(function: Any, *arguments: int) -> None:
    if function(*arguments, torch.get_num_threads()):
        raise MemoryError("the cpu backend could not get its scratch memory")


def _ready(plan: RoundPlan, first: Tensor, second: Tensor) -> tuple[_Kernels, torch.dtype]:
    kernels = _load()
    if isinstance(kernels, str):
        raise InputError(f"{kernels}; choose another backend")
    if first.dtype not in _SUFFIX or first.dtype != second.dtype:
        raise InputError(
            f"the cpu backend multiplies two tensors of float32 or two of float64, these are "
            f"{first.dtype} and {second.dtype}; convert them or choose another backend"
        )
    if not (first.is_cpu and second.is_cpu and plan.source.is_cpu):
        raise InputError(
            f"the cpu backend works on the CPU, the tensors lie on {first.device} and "
            f"{second.device} and the plan on {plan.device}; move them or choose another backend"
        )
    return kernels, first.dtype


def _check(tensor: Tensor, shape: tuple[int | None, ...], name: str) -> None:
    fits = tensor.dim() == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)}, this round's plan needs ({wanted})"
        )


def _rows(x: Tensor) -> Tensor:
    """``x`` with its channels side by side; rows may lie apart."""
    return x if x.stride(1) == 1 else x.contiguous()
