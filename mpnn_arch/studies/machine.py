"""The machine and the versions that a trial was trained on."""

from __future__ import annotations

import platform
import socket
from typing import Any

import torch

from mpnn_arch.training.environment import environment


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What rounding and speed depend on, JSON-able; threads have a column of their own."""
    return {
        "host": socket.gethostname(),
        **environment(torch.device(device)),
        "python": platform.python_version(),
    }
