"""Copying tables and loading kernels while a CUDA graph is captured, which its capture forbids.

While a stream is captured in torch's default mode, its thread may not copy from ordinary host
memory, allocate device memory or load a module, on any stream. In the driver's relaxed mode it may,
outside the captured stream; torch's own allocator does the same.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


@functools.cache
def _driver() -> Any:
    """The CUDA driver's library; None where it cannot be loaded, as with ROCm."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        _ = library.cuThreadExchangeStreamCaptureMode
    except (OSError, AttributeError):
        return None
    return library


def is_capturing(device: torch.device) -> bool:
    """Whether the current stream of ``device`` is captured into a CUDA graph."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


@contextmanager
def relaxed_capture() -> Iterator[None]:
    """Put this thread into the relaxed capture mode, and back into its own at the end."""
    driver = _driver()
    if driver is None:
        yield
        return
    mode = ctypes.c_int(_RELAXED)
    driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))  # returns the mode before in place
    try:
        yield
    finally:
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """On a stream that is not captured. torch hands out its 32 in turn, captured ones too."""
    with torch.cuda.stream(torch.cuda.Stream(device)):
        if not torch.cuda.is_current_stream_capturing():
            yield
            return
    with _apart(device):
        yield


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """``values`` on ``device``, also while its stream is captured.

    The copy then runs on another stream and has ended when this returns: it is not part of the
    captured graph.
    """
    host = torch.from_numpy(values)
    if not is_capturing(device):
        return host.to(device)
    with relaxed_capture(), _apart(device):
        return host.to(device)


def download(values: Tensor) -> np.ndarray:
    """``values`` in host memory, also while the stream of their device is captured.

    They must have been computed before the capture began.
    """
    if not is_capturing(values.device):
        return values.detach().cpu().numpy()
    with relaxed_capture(), _apart(values.device):
        return values.detach().cpu().numpy()
