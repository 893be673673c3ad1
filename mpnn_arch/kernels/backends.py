"""Which backends there are, and which can run on a given tensor here."""

from __future__ import annotations

import importlib
import warnings
from functools import cache

import torch

# Backends with a module of three products behind the operators. "masked" is plain torch.
FUSED = ("gather", "cpu", "triton")
BACKENDS = ("masked", *FUSED)

_DTYPES = {
    "cpu": (torch.float32, torch.float64),
    "triton": (torch.float32, torch.float16, torch.bfloat16, torch.float64),
}


def unavailable_reason(backend: str, device: str, dtype: torch.dtype) -> str:
    """Why ``backend`` cannot run on such a tensor here, in one sentence; empty where it can.

    Args:
        backend: one of ``BACKENDS``.
        device: a device type, ``"cpu"`` or ``"cuda"``.
        dtype: of the tensor.
    """
    if backend not in _DTYPES:
        return ""
    reason = _module_reason(backend)
    if reason:
        return reason
    if dtype not in _DTYPES[backend]:
        return f"the {backend} backend has no kernels for {dtype}"
    home = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    return "" if device == home else f"the {backend} backend runs on {home}, not on {device}"


def candidates(device: str, dtype: torch.dtype) -> list[str]:
    """The backends that can run on such a tensor here and are made for it.

    Triton's interpreter is a test bench; it is never a candidate.
    """
    return [
        backend
        for backend in BACKENDS
        if not unavailable_reason(backend, device, dtype)
        and not (backend == "triton" and device == "cpu")
    ]


_REASONS: dict[str, str] = {}


@torch.compiler.assume_constant_result  # a tracer cannot follow an import, nor functools.cache
def _module_reason(backend: str) -> str:
    if backend not in _REASONS:
        try:
            module = importlib.import_module(f"mpnn_arch.kernels.{backend}")
        except ImportError as error:
            _REASONS[backend] = f"the {backend} backend cannot be imported: {error}"
        else:
            _REASONS[backend] = module.unavailable_reason()
    return _REASONS[backend]


@cache
def warn_once(sentence: str) -> None:
    """Warn, the first time this sentence is said in the process."""
    warnings.warn(sentence, stacklevel=3)
