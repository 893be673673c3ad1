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
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.native.build import BuildError, load_library
from mpnn_arch.kernels.native.tables import tables_of
from mpnn_arch.kernels.plan import RoundPlan

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
Pair = tuple[int, int]
_P, _I = ctypes.c_void_p, ctypes.c_int64


class _Kernels:
    """The library's functions, typed once."""

    def __init__(self) -> None:
        library = load_library()
        self.places = (library.places_f32(), library.places_f64())
        types = {
            "linear_forward": (_P, _P, _I, _I, _P, _P, _I),
            "linear_grad_input": (_P, _P, _I, _I, _P, _P, _I),
            "linear_grad_weight": (_P, _P, _I, _P, _I, _I, _P, _I),
            "conv2d_forward": (_P, _P, _P, _P, _P, _I),
            "conv2d_grad_input": (_P, _P, _P, _P, _P, _I),
            "conv2d_grad_weight": (_P, _P, _P, _P, _P, _I),
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


def conv2d_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """The same on maps: y_v = sum over u in N(v) of W_vu convolved with x_u.

    Shapes:
        - **x:** (B, C_in, H, W)
        - **weight:** (num_weights, K, K)
        - **output:** (B, C_out, H', W')

    Raises:
        InputError: as :func:`linear_forward`, or a kernel larger than the padded map.
    """
    kernels, dtype = _ready(plan, x, weight)
    _check(x, (None, plan.in_channels, None, None), "x")
    _check(weight, (plan.num_weights, None, None), "weight")
    geometry = _geometry(tuple(x.shape), tuple(weight.shape[1:]), stride, padding, dilation)
    y = x.new_empty(x.shape[0], plan.out_channels, *geometry[3:5])
    if not y.numel():
        return y
    x, weight = x.contiguous(), weight.contiguous()
    _run(
        kernels.functions["conv2d_forward", dtype],
        tables_of(plan, kernels.places).pointer,
        ctypes.addressof(geometry),
        x.data_ptr(),
        weight.data_ptr(),
        y.data_ptr(),
    )
    return y


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: Sequence[int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The gradient for x, of shape ``input_size`` = (B, C_in, H, W).

    Shapes:
        - **grad:** (B, C_out, H', W')
        - **weight:** (num_weights, K, K)
        - **output:** (B, C_in, H, W)

    Raises:
        InputError: as :func:`conv2d_forward`.
    """
    kernels, dtype = _ready(plan, grad, weight)
    _check(weight, (plan.num_weights, None, None), "weight")
    geometry = _geometry(tuple(input_size), tuple(weight.shape[1:]), stride, padding, dilation)
    _check(grad, (input_size[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return grad.new_zeros(tuple(input_size))
    x = grad.new_empty(tuple(input_size))
    grad, weight = grad.contiguous(), weight.contiguous()
    _run(
        kernels.functions["conv2d_grad_input", dtype],
        tables_of(plan, kernels.places).pointer,
        ctypes.addressof(geometry),
        grad.data_ptr(),
        weight.data_ptr(),
        x.data_ptr(),
    )
    return x


def conv2d_grad_weight(
    grad: Tensor,
    x: Tensor,
    plan: RoundPlan,
    kernel_size: Sequence[int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The gradient for the kernels, (num_weights, K, K).

    Shapes:
        - **grad:** (B, C_out, H', W')
        - **x:** (B, C_in, H, W)
        - **output:** (num_weights, K, K)

    Raises:
        InputError: as :func:`conv2d_forward`.
    """
    kernels, dtype = _ready(plan, grad, x)
    _check(x, (None, plan.in_channels, None, None), "x")
    geometry = _geometry(tuple(x.shape), tuple(kernel_size), stride, padding, dilation)
    _check(grad, (x.shape[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return x.new_zeros(plan.num_weights, *kernel_size)
    weight = x.new_empty(plan.num_weights, *kernel_size)
    grad, x = grad.contiguous(), x.contiguous()
    _run(
        kernels.functions["conv2d_grad_weight", dtype],
        tables_of(plan, kernels.places).pointer,
        ctypes.addressof(geometry),
        grad.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
    )
    return weight


@lru_cache(maxsize=1024)
def _geometry(
    input_size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> ctypes.Array[ctypes.c_int64]:
    """what ``Geometry`` of native/conv_lines.h holds: batch, then pairs of (height, width)."""
    batch, _, *size = input_size
    output = [
        (size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1
        for d in (0, 1)
    ]
    if min(output) < 1:
        raise InputError(
            f"a {tuple(kernel)} kernel of dilation {tuple(dilation)} does not fit into a map of "
            f"{tuple(size)} with padding {tuple(padding)}; pad more or use a smaller kernel"
        )
    numbers = [batch, *size, *output, *kernel, *stride, *padding, *dilation]
    return (ctypes.c_int64 * len(numbers))(*numbers)


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
    given = tensor.shape
    fits = len(given) == len(shape)
    for want, have in zip(shape, given, strict=False):  # a loop: quicker than `all`, and it counts
        fits = fits and (want is None or want == have)
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} has shape {tuple(given)}, this round's plan needs ({wanted})")


def _rows(x: Tensor) -> Tensor:
    """``x`` with its channels side by side; rows may lie apart."""
    return x if x.stride(1) == 1 else x.contiguous()
