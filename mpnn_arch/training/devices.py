"""Devices by name, and their free memory."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import torch

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.training.control_groups import groups_of, read_number


def find_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is the first CUDA device, or the CPU without one.

    Raises:
        InputError: no such device.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Torch also takes cpu:7 and cuda:007.
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]?))?", name):
        raise InputError(f"there is no device {shown(name)}; choose auto, cpu, cuda or cuda:0")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r} was asked for, but torch finds {torch.cuda.device_count()} CUDA "
            "devices; choose cpu"
        )
    return device


def free_memory(device: torch.device) -> int | None:
    """Bytes of memory that are free, also within a limit; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    left = (_left(group) for group in groups_of("memory"))
    return min([1024 * int(free.split()[1]), *(room for room in left if room is not None)])


def _left(group: Path) -> int | None:
    """Bytes that a control group has left; None: it has no limit, or is not there."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = read_number(group / limit), read_number(group / used)
        if most is not None and now is not None:
            with suppress(OSError, ValueError, IndexError):  # files that are read again if need be
                lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
                now -= sum(int(line.split()[1]) for line in lines if line.split()[0] == cache)
            return max(0, most - now)
    return None


def check_graphs(device: torch.device) -> None:
    """Refuse CUDA graphs on a device that has none.

    Raises:
        InputError: not a CUDA device.
    """
    if device.type != "cuda":
        raise InputError(
            f"CUDA graphs need a CUDA device, and the training is on {str(device)!r}; leave out "
            "--cuda-graphs, or train on a machine with a GPU"
        )
