"""Refusing what cannot fit into memory before it is allocated."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mpnn_arch.checks import host_memory
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.geometry import ConvGeometry

# Smaller allocations are not checked: a product's dense matrix is checked at every call.
SURELY_FITS = 2**28


def device_or_default(device: torch.device | str | None) -> torch.device | str:
    """``device``, or where torch makes a tensor now, in a ``with torch.device(...)`` too."""
    return torch.empty(0).device if device is None else device


def require_memory(num_bytes: int, device: torch.device | str, what: str, instead: str) -> None:
    """Refuse an allocation larger than all memory of ``device``.

    Args:
        num_bytes: that would be allocated.
        device: where; nothing is ever allocated on ``"meta"``.
        what: is allocated, the subject of the message.
        instead: what to do, the end of the message.

    Raises:
        InputError: it cannot fit; the message gives both numbers of bytes.
    """
    if num_bytes <= SURELY_FITS:
        return
    device = torch.device(device)
    total = memory_of(device)
    if total is not None and num_bytes > total:
        raise InputError(
            f"{what} would take {num_bytes:,} bytes, {device.type} has {total:,}; {instead}"
        )


def check_maps(x: Tensor, geometry: ConvGeometry, out_channels: int) -> None:
    """Refuse maps that a kernel does not fit, or whose output would not fit into memory.

    Args:
        x: (..., C, H, W).
        geometry: of the convolution.
        out_channels: maps of the output, per sample.

    Raises:
        InputError: either of them.
    """
    area = math.prod(geometry.checked_output_size(x.shape[-2:]))
    require_memory(
        math.prod(x.shape[:-3]) * out_channels * area * x.element_size(),
        x.device,
        f"the output of this convolution, {area} pixels a map,",
        "pad less, or use a smaller batch",
    )


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that this process can use on ``device``; None where unknown or unlimited."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return host_memory() if device.type == "cpu" else None
