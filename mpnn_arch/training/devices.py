"""Selecting a device by name."""

from __future__ import annotations

import torch

from mpnn_arch.errors import InputError


def find_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first CUDA device, or the CPU without one.

    Raises:
        InputError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"there is no device {name!r}; choose auto, cpu, cuda or cuda:0")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r} was asked for, but torch finds {torch.cuda.device_count()} CUDA "
            "devices; choose cpu"
        )
    return device
