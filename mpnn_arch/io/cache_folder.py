"""Where this library caches files: compiled kernels, timed choices, what it fetched."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """``$MPNN_ARCH_CACHE``, else :func:`user_cache`."""
    configured = os.environ.get("MPNN_ARCH_CACHE")
    return Path(configured) if configured else user_cache()


def user_cache() -> Path | None:
    """``$XDG_CACHE_HOME/mpnn_arch``, else ``~/.cache/mpnn_arch``.

    None for a user without a home directory, such as a number that a container runs as.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mpnn_arch"
    except RuntimeError:
        return None
