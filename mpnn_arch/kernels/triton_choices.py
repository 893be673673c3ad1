"""The tile sizes that trials selected, in this process and on disk beside the backends' choices."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

import mpnn_arch
from mpnn_arch.kernels.dispatch.choice import kernels_version
from mpnn_arch.kernels.dispatch.choice_cache import key_of, read_cached, write_cached
from mpnn_arch.kernels.triton_configs import Config

_CHOSEN: dict[tuple[Any, ...], Config] = {}


def recall(key: tuple[Any, ...], configs: list[Config], x: Tensor) -> Config | None:
    """What was selected for this launch on x's device, if it is still one of ``configs``."""
    known = _CHOSEN.get((*key, x.device))
    if known is None:
        known = _read(_describe(key, x))
        if known not in configs:
            return None
        _CHOSEN[(*key, x.device)] = known
    return known


def remember(key: tuple[Any, ...], config: Config, x: Tensor) -> None:
    """Cache ``config`` for this launch, in this process and on disk."""
    _CHOSEN[(*key, x.device)] = config
    described = _describe(key, x)
    write_cached(f"tiles-{key_of(described)}", {"launch": described, "tiles": config})


def forget() -> None:
    """Clear the choices of this process, but not the disk."""
    _CHOSEN.clear()


def _describe(key: tuple[Any, ...], x: Tensor) -> dict[str, Any]:
    """Everything that a trial's result depends on."""
    return {
        "launch": [str(part) for part in key],
        "device": torch.cuda.get_device_name(x.device) if x.is_cuda else "cpu",
        "torch": torch.__version__,
        "triton": _triton_version(),
        "version": mpnn_arch.__version__,
        "kernels": kernels_version(),
    }


def _read(described: dict[str, Any]) -> Config | None:
    read = read_cached(f"tiles-{key_of(described)}")
    tiles = read.get("tiles") if isinstance(read, dict) else None
    return tiles if isinstance(tiles, dict) else None


@cache
def _triton_version() -> str:
    import triton

    return str(triton.__version__)
