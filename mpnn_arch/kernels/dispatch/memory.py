"""The cache of trial results, in this process and on disk.

The disk cache is one JSON file per trial under ``$MPNN_ARCH_CACHE``, else
``$XDG_CACHE_HOME/mpnn_arch``, else ``~/.cache/mpnn_arch``; if the directory is not writable,
results are cached in the process only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpnn_arch.io.files import write_text


@dataclass(frozen=True)
class Choice:
    """The selected backend, how it was selected, and each candidate's time.

    Attributes:
        backend: the selected one.
        how: ``"trial"``, ``"disk"`` (an earlier trial), ``"rule"``, ``"stored"`` (from a
            checkpoint) or ``"complete"`` (every backend is the plain dense layer).
        seconds: lower quartile of forward and backward per candidate; empty where none was
            timed.
        spread: half the range of those timings over their lower quartile.
    """

    backend: str
    how: str
    seconds: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        how = {
            "trial": "timed in this process",
            "disk": "timed earlier on this machine",
            "rule": "by rule, nothing was timed",
            "stored": "stored with the weights",
            "complete": "the graph is complete: plain dense",
        }[self.how]
        times = ", ".join(
            f"{name} {seconds * 1e3:.3g} ms"
            for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1])
        )
        return f"{self.backend} ({how}{': ' + times if times else ''})"


_LARGEST_FILE = 1 << 20  # bytes; a choice takes about a thousand
_CACHE: dict[str, Choice] = {}


def key_of(described: dict[str, Any]) -> str:
    """The cache key of a trial: a digest of everything its result depends on."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def recall(key: str) -> Choice | None:
    """The cached choice for ``key``, from this process or from disk."""
    return _CACHE.get(key) or _read(key)


def remember(key: str, choice: Choice, described: dict[str, Any] | None = None) -> None:
    """Cache ``choice`` in this process; also on disk if ``described`` is given."""
    _CACHE[key] = choice
    if described is None:
        return
    text = json.dumps({"trial": described, "choice": asdict(choice)}, indent=1)
    directory = cache_directory()
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / f"{key}.json", text)


def forget() -> None:
    """Clear the cache of this process, but not the disk."""
    _CACHE.clear()


def cache_directory() -> Path:
    """The directory of the disk cache."""
    configured = os.environ.get("MPNN_ARCH_CACHE")
    if configured:
        return Path(configured) / "choices"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mpnn_arch/choices"


def _read(key: str) -> Choice | None:
    try:
        path = cache_directory() / f"{key}.json"
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return None
        read = json.loads(path.read_text(encoding="utf-8"))
        backend, seconds, spread = (read["choice"][k] for k in ("backend", "seconds", "spread"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if not (isinstance(backend, str) and _is_times(seconds) and _is_times(spread)):
        return None
    return Choice(backend, "disk", seconds, spread)


def _is_times(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and type(number) in (int, float) and math.isfinite(number)
        for name, number in value.items()
    )
