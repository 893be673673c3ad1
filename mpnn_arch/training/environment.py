"""What the bits of a training depend on beside its configuration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from mpnn_arch import __version__
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.choice import cpu_name

# Where one of these differs, sums are taken in another order: the bits change.
_DECISIVE = {
    "device": "resume it with --device {0}",
    "torch": "install torch {0}",
    "cuda_graphs": "resume it with --cuda-graphs as it was then",
}
# Where one of these differs, the bits may change.
_NOTED = {"mpnn_arch": "version of mpnn_arch", "processor": "processor"}


def environment(device: torch.device) -> dict[str, Any]:
    """The versions and the device, JSON-able; a trial keeps its number of threads beside them."""
    is_gpu = device.type == "cuda"
    return {
        "mpnn_arch": __version__,
        "torch": torch.__version__,
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if is_gpu else cpu_name(),
    }


def check_environment(
    what: str,
    started: Mapping[str, Any],
    now: Mapping[str, Any],
    otherwise: str,
) -> None:
    """Compare the environment that a training was started in with the present one.

    Another version of this package or another processor is reported in a warning: most changes
    keep the bits.

    Args:
        what: the training, for the message.
        started: what :func:`environment` returned when it was started, and ``cuda_graphs``.
        now: the same of now; what only one of both has is not compared.
        otherwise: what to do where the environment cannot be had again.

    Raises:
        InputError: another device or version of torch, or CUDA graphs in one of both, with which
            the training would go on with other bits than an uninterrupted one.
    """
    for name, fix in _DECISIVE.items():
        if name in started and name in now and started[name] != now[name]:
            before = str(started[name])[:80]
            raise InputError(
                f"{what} was started with {name} {before}, now it is {now[name]}, and the result "
                f"would have other bits than without the interruption; {fix.format(before)}, or "
                f"{otherwise}"
            )
    for name, words in _NOTED.items():
        if name in started and name in now and started[name] != now[name]:
            warnings.warn(
                f"{what} was started with another {words} ({str(started[name])[:80]}, now "
                f"{now[name]}); its result may have other bits than without the interruption",
                stacklevel=3,
            )
