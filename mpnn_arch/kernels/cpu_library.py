"""The cpu backend's library of C++ kernels: its functions, and what they are called with."""

from __future__ import annotations

import ctypes
import warnings
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.kernels.native.build import BuildError
from mpnn_arch.kernels.native.library import load_kernels
from mpnn_arch.kernels.native.pair_tables import PairTables
from mpnn_arch.kernels.native.tables import Tables
from mpnn_arch.kernels.notice import said_if_slow
from mpnn_arch.kernels.plan import RoundPlan

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_P, _I = ctypes.c_void_p, ctypes.c_int64
_TYPES = {
    "linear_forward": (_P, _P, _I, _I, _P, _P, _I, _P, _I),
    "linear_grad_input": (_P, _P, _I, _I, _P, _P, _I),
    "linear_grads": (_P, _P, _I, _P, _P, _I, _I, _P, _P, _P, _P, _I),
    "conv2d_forward": (_P, _P, _P, _P, _P, _I),
    "conv2d_grad_input": (_P, _P, _P, _P, _P, _I),
    "conv2d_grad_weight": (_P, _P, _P, _P, _P, _I),
    "norm_forward": (_P, _P, _P, ctypes.c_double, _I, _P, _P, _P, _P),
    "norm_backward": (_P, _P, _P, _P, _P, _P, _P, _P, _P, _P),
}
# In bfloat16 each gradient over vectors is a product of its own, no ReLU follows, and products over
# maps add the bias, before they round; products of few samples have functions of their own.
_BF16_TYPES = {
    **{name: types for name, types in _TYPES.items() if "grad_" in name or "norm_" in name},
    "linear_forward": (_P, _P, _I, _I, _P, _P, _P, _I),
    "linear_grad_weight": (_P, _P, _I, _P, _I, _I, _P, _I),
    "conv2d_forward": (_P, _P, _P, _P, _P, _P, _I),
    "few_forward": (_P, _P, _I, _I, _P, _P, _P, _I),
    "few_grad_input": (_P, _P, _I, _I, _P, _P, _I),
    "few_grad_weight": (_P, _P, _I, _P, _I, _I, _P, _I),
}
# Attributes of a plan that cache its tables; not copied or pickled.
TABLES, _PAIR_TABLES = "_native_tables", "_native_pair_tables"


class Kernels:
    """The library's functions by dtype and name, with their ctypes signatures.

    Attributes:
        origin: where the library is from and why, in words.
        threads: which threads it runs on, in words.
        places: channels that one vector of the outer product holds, in float32 and float64.
        functions: by dtype and name.
        bf16_products: 1 where bfloat16 is multiplied by instructions of the processor, 0 where
            these are emulated, -1 where the processor lacks those that the library has.
        few_samples: up to how many samples of bfloat16 need no such instructions.
    """

    def __init__(self) -> None:
        loaded = load_kernels()
        library, self.origin, self.threads = loaded.library, loaded.origin, loaded.threads
        self.places = (library.places_f32(), library.places_f64())
        self.bf16_products = int(library.bf16_products())
        self.few_samples = int(library.few_samples_bf16())
        self.functions: dict[torch.dtype, dict[str, Any]] = {}
        for dtype, suffix, types in (
            (torch.float32, "f32", _TYPES),
            (torch.float64, "f64", _TYPES),
            (torch.bfloat16, "bf16", _BF16_TYPES),
        ):
            functions = {name: getattr(library, f"{name}_{suffix}") for name in types}
            for name, arguments in types.items():
                functions[name].argtypes, functions[name].restype = arguments, ctypes.c_int
            self.functions[dtype] = functions

    def tables(self, plan: RoundPlan) -> Tables:
        """The plan's tables, built at the first call.

        The caller keeps them while a kernel reads them: another thread may release the plan's.
        """
        tables = plan.__dict__.get(TABLES)
        if tables is None:
            tables = plan.__dict__.setdefault(TABLES, Tables(plan, self.places))
        return tables  # type: ignore[no-any-return]

    def pair_tables(self, plan: RoundPlan) -> PairTables:
        """Those that products of bfloat16 read, likewise."""
        tables = plan.__dict__.get(_PAIR_TABLES)
        if tables is None:
            tables = plan.__dict__.setdefault(_PAIR_TABLES, PairTables(plan, self.places))
        return tables  # type: ignore[no-any-return]


def release_tables(plan: RoundPlan) -> None:
    """Drop the plan's tables; the next product rebuilds them."""
    for key in (TABLES, _PAIR_TABLES):
        plan.__dict__.pop(key, None)


@cache
def load() -> Kernels | str:
    """The kernels, or why there are none."""
    try:
        with said_if_slow("mpnn_arch compiles its C++ kernels, once: some 30 s"):
            return Kernels()
    except BuildError as error:
        reason = f"the cpu backend has no kernels here: {error}"
        warnings.warn(f"{reason}; a slower backend is used instead", stacklevel=4)
        return reason


def functions_of(dtype: torch.dtype) -> dict[str, Any]:
    """The kernels of a dtype by name, where there are kernels."""
    return require_kernels().functions[dtype]


def require_kernels() -> Kernels:
    """The kernels.

    Raises:
        InputError: there are none.
    """
    kernels = load()
    if isinstance(kernels, str):
        raise InputError(f"{kernels}; choose another backend")
    return kernels


@lru_cache(maxsize=1024)
def conv_numbers(
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


def check_shape(tensor: Tensor, shape: tuple[int | None, ...], name: str) -> None:
    """Raise InputError unless a tensor has this shape; None is any size."""
    given = tensor.shape
    fits = len(given) == len(shape)
    for want, have in zip(shape, given, strict=False):  # a loop: faster than `all`, on a hot path
        fits = fits and (want is None or want == have)
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} has shape {tuple(given)}, this round's plan needs ({wanted})")


def misfit(plan: RoundPlan, first: Tensor, second: Tensor) -> InputError:
    """What is wrong with two operands' dtypes or devices."""
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
