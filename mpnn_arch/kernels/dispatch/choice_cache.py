"""The cache of trial results, in this process and on disk.

The disk cache is one JSON file per trial in the folder ``choices`` of
:func:`~mpnn_arch.io.cache_folder.cache_folder`; where it cannot be written, results are cached in
the process only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpnn_arch.io.cache_folder import cache_folder
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
    if described is not None:
        write_cached(key, {"trial": described, "choice": asdict(choice)})


def forget() -> None:
    """Clear the cache of this process, but not the disk."""
    _CACHE.clear()


def read_cached(name: str) -> Any:
    """The value that :func:`write_cached` wrote under this name; None if there is none."""
    try:
        path = _folder() / f"{name}.json"
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_cached(name: str, value: object) -> None:
    """Write ``value`` as JSON into the disk cache, where that is possible."""
    text = json.dumps(value, indent=1)
    with contextlib.suppress(OSError):
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name}.json", text)


def _folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise FileNotFoundError("this user has no home directory")
    return folder / "choices"


def _read(key: str) -> Choice | None:
    read = read_cached(key)
    try:
        backend, seconds, spread = (read["choice"][k] for k in ("backend", "seconds", "spread"))
    except (LookupError, TypeError):
        return None
    if not (isinstance(backend, str) and _is_times(seconds) and _is_times(spread)):
        return None
    return Choice(backend, "disk", seconds, spread)


def _is_times(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and type(number) in (int, float) and math.isfinite(number)
        for name, number in value.items()
    )
