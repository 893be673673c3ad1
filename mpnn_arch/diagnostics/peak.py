"""The processor's peak: the limit of any product on it."""

from __future__ import annotations

import ctypes
from functools import cache

import torch

from mpnn_arch.kernels.cpu_bf16 import NATIVE
from mpnn_arch.kernels.native.build import BuildError
from mpnn_arch.kernels.native.library import load_kernels

_SECONDS, _TURNS = 0.05, 5


@cache
def fma_peak(dtype: torch.dtype = torch.float32, threads: int = 1) -> float | None:
    """Operations a second of fused multiply-adds in registers, measured once per process.

    A multiplication and an addition are counted as one operation each. The best of five runs of
    0.05 s on all ``threads`` at once, so that other load lowers it as little as possible.

    Args:
        dtype: float32 or float64, or bfloat16 where the processor has instructions for it.
        threads: number of threads that run at once.

    Returns:
        Operations a second of all threads together; None where there are no kernels, or
        for another dtype.

    Example:
        >>> peak = fma_peak(threads=1)
        >>> peak is None or peak > 1e9
        True
    """
    suffix = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}.get(dtype)
    if suffix is None:
        return None
    try:
        library = load_kernels().library
        measure = getattr(library, f"peak_{suffix}")
    except (BuildError, AttributeError):
        return None
    if dtype is torch.bfloat16 and library.bf16_products() != NATIVE:
        return None
    measure.argtypes, measure.restype = (ctypes.c_double, ctypes.c_int64), ctypes.c_double
    found = max(measure(_SECONDS, threads) for _ in range(_TURNS))
    return float(found) or None
