"""The cpu backend: C++ kernels that multiply along the edges only.

    y_v = sum over u in N(v) of W_vu x_u

A register tile accumulates some rows of a node's weights times a few vectors of samples over the
node's fan-in, so the cost is exactly the round's multiply-adds.

A wheel carries the kernels for most processors (``native/prebuilt.py``); elsewhere they are
compiled on first use (``native/build.py``). They run on torch's own threads
(``native/threads.py``). Every sum is computed by one thread in a fixed order, so results are
bit-identical for any number of threads (``torch.get_num_threads``).

float32 and float64 are multiplied as they are. bfloat16 and float16 are widened to float32, in
which sums are accumulated and the bias is added, and results are rounded once, to nearest even;
gradients likewise.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.roofline import Kernel, Machine, RoundSizes
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.kernels.native.build import BuildError
from mpnn_arch.kernels.native.library import load_kernels
from mpnn_arch.kernels.native.tables import Tables
from mpnn_arch.kernels.plan import RoundPlan

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DIFFERENTIABLE = False
ADDS_BIAS = True

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_WIDENED = (torch.bfloat16, torch.float16)
_P, _I = ctypes.c_void_p, ctypes.c_int64
_TOGETHER = 32  # samples; fewer would not fill the panels that both gradients read
_KEY = "_native_tables"  # attribute of a plan that caches its tables; not copied or pickled


class _Kernels:
    """The library's functions by dtype and name, with their ctypes signatures."""

    def __init__(self) -> None:
        loaded = load_kernels()
        library, self.origin, self.threads = loaded.library, loaded.origin, loaded.threads
        self.places = (library.places_f32(), library.places_f64())
        types = {
            "linear_forward": (_P, _P, _I, _I, _P, _P, _I),
            "linear_grad_input": (_P, _P, _I, _I, _P, _P, _I),
            "linear_grad_weight": (_P, _P, _I, _P, _I, _I, _P, _I),
            "linear_grads": (_P, _P, _I, _P, _I, _I, _P, _P, _P, _I),
            "conv2d_forward": (_P, _P, _P, _P, _P, _I),
            "conv2d_grad_input": (_P, _P, _P, _P, _P, _I),
            "conv2d_grad_weight": (_P, _P, _P, _P, _P, _I),
            "norm_forward": (_P, _P, _P, ctypes.c_double, _I, _P, _P, _P, _P),
            "norm_backward": (_P, _P, _P, _P, _P, _P, _P, _P, _P, _P),
        }
        self.functions: dict[torch.dtype, dict[str, Any]] = {}
        for dtype, suffix in _SUFFIX.items():
            self.functions[dtype] = {name: getattr(library, f"{name}_{suffix}") for name in types}
            for name, arguments in types.items():
                function = self.functions[dtype][name]
                function.argtypes, function.restype = arguments, ctypes.c_int


@cache
def _load() -> _Kernels | str:
    try:
        return _Kernels()
    except BuildError as error:
        reason = f"the cpu backend has no kernels here: {error}"
        warnings.warn(f"{reason}; a slower backend is used instead", stacklevel=4)
        return reason


def unavailable_reason() -> str:
    """Why the kernels cannot run here, in one sentence; empty where they can.

    The first call loads them, and compiles them where none are prebuilt or cached; a failure warns
    once and is remembered for the life of the process.
    """
    kernels = _load()
    return kernels if isinstance(kernels, str) else ""


def describe() -> str:
    """Which kernels are in use and why, and on which threads; or why there are none."""
    kernels = _load()
    if isinstance(kernels, str):
        return kernels
    return f"kernels {kernels.origin}; on {kernels.threads}"


def is_available() -> bool:
    """Whether the kernels run here."""
    return not unavailable_reason()


def device_type() -> str:
    """CPU tensors only."""
    return "cpu"


def step_kernels(sizes: RoundSizes, machine: Machine) -> list[Kernel]:
    """One call a product, which computes exactly the multiply-adds along the edges.

    Its tile reaches the same share of the peak as that of a dense product, so it is predicted to be
    faster on every graph that lacks an edge.
    """
    moved = sizes.x_bytes + sizes.y_bytes + sizes.weight_bytes
    tile = "edges conv" if sizes.is_convolution else "edges"
    return [Kernel(products=sizes.products, bytes=moved, tile=tile)] * 3


def worth_timing(device: str, kernel: Sequence[int]) -> bool:
    """Always."""
    return True


def worth_timing_complete(device: str, kernel: Sequence[int]) -> bool:
    """Always."""
    return True


def prepare(plan: RoundPlan) -> None:
    """Nothing: the first product builds its tables in numpy, which tracing does not see."""


def release(plan: RoundPlan) -> None:
    """Drop the plan's tables; the next product rebuilds them."""
    plan.__dict__.pop(_KEY, None)


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None
) -> Tensor:
    """y_v = sum over u in N(v) of W_vu x_u, plus a bias.

    Shapes:
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **bias:** (C_out,) or None
        - **output:** (B, C_out)

    Raises:
        InputError: a dtype that is not in ``DTYPES`` or two dtypes, tensors on another device or
            of another shape, or no kernels on this machine.
    """
    if x.dtype in _WIDENED:
        return _in_float32(linear_forward, x, weight, plan, bias)
    call, tables = _ready(plan, x, weight)
    if x.dim() != 2 or x.shape[1] != plan.in_channels or weight.shape != (plan.num_weights,):
        _check(x, (None, plan.in_channels), "x")
        _check(weight, (plan.num_weights,), "weight")
    x, weight = x if x.stride(1) == 1 else x.contiguous(), weight.contiguous()
    y = x.new_empty(x.shape[0], plan.out_channels)
    failed = call["linear_forward"](
        tables.pointer,
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return y if bias is None else y.add_(bias)


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient with respect to x: g_u = sum over v with u in N(v) of W_vu^T grad_v.

    Shapes:
        - **grad:** (B, C_out)
        - **weight:** (num_weights,)
        - **output:** (B, C_in)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    if grad.dtype in _WIDENED:
        return _in_float32(linear_grad_input, grad, weight, plan)
    call, tables = _ready(plan, grad, weight)
    if grad.dim() != 2 or grad.shape[1] != plan.out_channels or weight.shape != (plan.num_weights,):
        _check(grad, (None, plan.out_channels), "grad")
        _check(weight, (plan.num_weights,), "weight")
    grad, weight = grad if grad.stride(1) == 1 else grad.contiguous(), weight.contiguous()
    x = grad.new_empty(grad.shape[0], plan.in_channels)
    failed = call["linear_grad_input"](
        tables.pointer,
        grad.data_ptr(),
        grad.stride(0),
        grad.shape[0],
        weight.data_ptr(),
        x.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return x


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """The gradient with respect to W: on edge u -> v, the sum over samples of grad_v x_u^T.

    Shapes:
        - **grad:** (B, C_out)
        - **x:** (B, C_in)
        - **output:** (num_weights,)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    if grad.dtype in _WIDENED:
        return _in_float32(linear_grad_weight, grad, x, plan)
    call, tables = _ready(plan, grad, x)
    _check(x, (None, plan.in_channels), "x")
    _check(grad, (x.shape[0], plan.out_channels), "grad")
    if not x.shape[0]:
        return x.new_zeros(plan.num_weights)
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    x = x if x.stride(1) == 1 else x.contiguous()
    weight = x.new_empty(plan.num_weights)
    failed = call["linear_grad_weight"](
        tables.pointer,
        grad.data_ptr(),
        grad.stride(0),
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return weight


def linear_grads(grad: Tensor, x: Tensor, weight: Tensor, plan: RoundPlan) -> tuple[Tensor, Tensor]:
    """The gradients with respect to x and W at once, for which grad is packed once.

    The bits are those of :func:`linear_grad_input` and :func:`linear_grad_weight`.

    Shapes:
        - **grad:** (B, C_out)
        - **x:** (B, C_in)
        - **weight:** (num_weights,)
        - **outputs:** (B, C_in) and (num_weights,)

    Raises:
        InputError: as :func:`linear_forward`.
    """
    if grad.dtype in _WIDENED and grad.dtype is x.dtype is weight.dtype:
        grad_x, grad_weight = linear_grads(grad.float(), x.float(), weight.float(), plan)
        return grad_x.to(grad.dtype), grad_weight.to(grad.dtype)
    if x.shape[0] < _TOGETHER:
        return linear_grad_input(grad, weight, plan), linear_grad_weight(grad, x, plan)
    call, tables = _ready(plan, grad, weight)
    _ready(plan, grad, x)
    _check(x, (None, plan.in_channels), "x")
    _check(grad, (x.shape[0], plan.out_channels), "grad")
    _check(weight, (plan.num_weights,), "weight")
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    x = x if x.stride(1) == 1 else x.contiguous()
    weight = weight.contiguous()
    grad_x, grad_weight = x.new_empty(x.shape), x.new_empty(plan.num_weights)
    failed = call["linear_grads"](
        tables.pointer,
        grad.data_ptr(),
        grad.stride(0),
        x.data_ptr(),
        x.stride(0),
        x.shape[0],
        weight.data_ptr(),
        grad_x.data_ptr(),
        grad_weight.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return grad_x, grad_weight


def conv2d_forward(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    bias: Tensor | None = None,
) -> Tensor:
    """The same over maps: y_v = sum over u in N(v) of W_vu * x_u, a convolution.

    Shapes:
        - **x:** (B, C_in, H, W)
        - **weight:** (num_weights, K, K)
        - **bias:** (C_out,) or None
        - **output:** (B, C_out, H', W')

    Raises:
        InputError: as :func:`linear_forward`, or a kernel larger than the padded map.
    """
    if x.dtype in _WIDENED:
        return _in_float32(conv2d_forward, x, weight, plan, stride, padding, dilation, bias)
    call, tables = _ready(plan, x, weight)
    _check(x, (None, plan.in_channels, None, None), "x")
    _check(weight, (plan.num_weights, None, None), "weight")
    geometry = _geometry(tuple(x.shape), tuple(weight.shape[1:]), stride, padding, dilation)
    y = x.new_empty(x.shape[0], plan.out_channels, *geometry[3:5])
    if not y.numel():
        return y
    x, weight = x.contiguous(), weight.contiguous()
    failed = call["conv2d_forward"](
        tables.pointer,
        ctypes.addressof(geometry),
        x.data_ptr(),
        weight.data_ptr(),
        y.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return y if bias is None else y.add_(bias.view(-1, 1, 1))


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: Sequence[int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The gradient with respect to x, of shape ``input_size`` = (B, C_in, H, W).

    Shapes:
        - **grad:** (B, C_out, H', W')
        - **weight:** (num_weights, K, K)
        - **output:** (B, C_in, H, W)

    Raises:
        InputError: as :func:`conv2d_forward`.
    """
    if grad.dtype in _WIDENED:
        return _in_float32(
            conv2d_grad_input, grad, weight, plan, input_size, stride, padding, dilation
        )
    call, tables = _ready(plan, grad, weight)
    _check(weight, (plan.num_weights, None, None), "weight")
    geometry = _geometry(tuple(input_size), tuple(weight.shape[1:]), stride, padding, dilation)
    _check(grad, (input_size[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return grad.new_zeros(tuple(input_size))
    x = grad.new_empty(tuple(input_size))
    grad, weight = grad.contiguous(), weight.contiguous()
    failed = call["conv2d_grad_input"](
        tables.pointer,
        ctypes.addressof(geometry),
        grad.data_ptr(),
        weight.data_ptr(),
        x.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
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
    """The gradient with respect to the kernels, (num_weights, K, K).

    Shapes:
        - **grad:** (B, C_out, H', W')
        - **x:** (B, C_in, H, W)
        - **output:** (num_weights, K, K)

    Raises:
        InputError: as :func:`conv2d_forward`.
    """
    if grad.dtype in _WIDENED:
        return _in_float32(
            conv2d_grad_weight, grad, x, plan, kernel_size, stride, padding, dilation
        )
    call, tables = _ready(plan, grad, x)
    _check(x, (None, plan.in_channels, None, None), "x")
    geometry = _geometry(tuple(x.shape), tuple(kernel_size), stride, padding, dilation)
    _check(grad, (x.shape[0], plan.out_channels, *geometry[3:5]), "grad")
    if not grad.numel():
        return x.new_zeros(plan.num_weights, *kernel_size)
    weight = x.new_empty(plan.num_weights, *kernel_size)
    grad, x = grad.contiguous(), x.contiguous()
    failed = call["conv2d_grad_weight"](
        tables.pointer,
        ctypes.addressof(geometry),
        grad.data_ptr(),
        x.data_ptr(),
        weight.data_ptr(),
        torch.get_num_threads(),
    )
    if failed:
        raise error_of(failed)
    return weight


@lru_cache(maxsize=1024)
def _geometry(
    input_size: tuple[int, ...],
    kernel: tuple[int, int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> ctypes.Array[ctypes.c_int64]:
    """The fields of ``Geometry`` in native/conv_lines.h: batch, then (height, width) pairs."""
    geometry = ConvGeometry.of(kernel, stride, padding, dilation)
    batch, _, *size = input_size
    output = geometry.checked_output_size(size)
    numbers = [batch, *size, *output, *(number for pair in geometry for number in pair)]
    return (ctypes.c_int64 * len(numbers))(*numbers)


def error_of(code: int) -> Exception:
    """The exception for a kernel's return code."""
    if code == 1:
        return MemoryError("the cpu backend could not allocate its scratch memory")
    return InputError(
        "the cpu backend's kernels do not support these sizes: a map, kernel or batch exceeds the "
        "range of their indices; use backend='masked'"
    )


def _in_float32(
    product: Callable[..., Tensor], first: Tensor, second: Tensor, plan: RoundPlan, *rest: Any
) -> Tensor:
    """A product of bfloat16 or float16, computed in float32 and rounded once."""
    if first.dtype is not second.dtype:
        raise _misfit(plan, first, second)
    wide = (value.float() if isinstance(value, Tensor) else value for value in rest)
    return product(first.float(), second.float(), plan, *wide).to(first.dtype)


def functions_of(dtype: torch.dtype) -> dict[str, Any]:
    """The kernels for float32 or float64, by name; where :func:`is_available`."""
    kernels = _load()
    assert not isinstance(kernels, str)
    return kernels.functions[dtype]


def _ready(plan: RoundPlan, first: Tensor, second: Tensor) -> tuple[dict[str, Any], Tables]:
    """The functions for these tensors' dtype, and the plan's tables.

    The caller keeps the tables while a kernel reads them: another thread may release the plan's.
    """
    kernels, dtype = _load(), first.dtype
    if isinstance(kernels, str):
        raise InputError(f"{kernels}; choose another backend")
    if (
        dtype is not second.dtype
        or dtype not in _SUFFIX
        or not (first.is_cpu and second.is_cpu and plan.source.is_cpu)
    ):
        raise _misfit(plan, first, second)
    tables = plan.__dict__.get(_KEY)
    if tables is None:
        tables = plan.__dict__.setdefault(_KEY, Tables(plan, kernels.places))
    return kernels.functions[dtype], tables


def _misfit(plan: RoundPlan, first: Tensor, second: Tensor) -> InputError:
    if first.dtype not in DTYPES or first.dtype != second.dtype:
        names = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
        return InputError(
            f"the cpu backend needs two tensors of one dtype, {', '.join(names[:-1])} or "
            f"{names[-1]}, these are {first.dtype} and {second.dtype}; convert them or choose "
            "another backend"
        )
    return InputError(
        f"the cpu backend needs CPU tensors, these are on {first.device} and "
        f"{second.device} and the plan on {plan.device}; move them or choose another backend"
    )


def _check(tensor: Tensor, shape: tuple[int | None, ...], name: str) -> None:
    given = tensor.shape
    fits = len(given) == len(shape)
    for want, have in zip(shape, given, strict=False):  # a loop: faster than `all`, on a hot path
        fits = fits and (want is None or want == have)
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} has shape {tuple(given)}, this round's plan needs ({wanted})")
