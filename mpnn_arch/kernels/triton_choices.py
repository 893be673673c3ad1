"""The tile sizes that trials selected, in this process and on disk beside the backends' choices."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

import mpnn_arch
from mpnn_arch.io.files import write_text
from mpnn_arch.kernels.dispatch.choice import kernels_version
from mpnn_arch.kernels.dispatch.memory import cache_directory, key_of
from mpnn_arch.kernels.triton_configs import Config

_LARGEST_FILE = 1 << 16  # bytes
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
    """Keep ``config`` for this launch; on disk too, where the directory can be written."""
    _CHOSEN[(*key, x.device)] = config
    described = _describe(key, x)
    directory = cache_directory()
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"launch": described, "tiles": config}, indent=1)
        write_text(directory / f"tiles-{key_of(described)}.json", text)


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
    try:
        path = cache_directory() / f"tiles-{key_of(described)}.json"
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return None
        tiles = json.loads(path.read_text(encoding="utf-8"))["tiles"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return tiles if isinstance(tiles, dict) else None


@cache
def _triton_version() -> str:
    import triton

    return str(triton.__version__)
