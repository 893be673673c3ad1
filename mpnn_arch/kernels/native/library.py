"""The library of kernels in use: prebuilt, or compiled here, and why."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mpnn_arch.kernels.native import build
from mpnn_arch.kernels.native.build import BuildError
from mpnn_arch.kernels.native.prebuilt import find_prebuilt
from mpnn_arch.kernels.native.threads import share_threads


@dataclass(frozen=True)
class Kernels:
    """A loaded library.

    Attributes:
        library: with the functions of ``native/*.cpp``.
        origin: where it is from and why, in words.
        threads: which threads it runs on, in words.
    """

    library: ctypes.CDLL
    origin: str
    threads: str


@cache
def load_kernels() -> Kernels:
    """The kernels: those prebuilt for this processor, else compiled here.

    ``MPNN_ARCH_KERNELS=compile`` compiles even where prebuilt ones are; the path of a library loads
    that one.

    Raises:
        BuildError: none are prebuilt and they cannot be compiled, or the named library does not
            load.
    """
    library, origin = _load()
    return Kernels(library, origin, share_threads(library))


def _load() -> tuple[ctypes.CDLL, str]:
    asked = os.environ.get("MPNN_ARCH_KERNELS")
    if asked and asked != "compile":
        return build.open_library(Path(asked)), f"{asked}, as MPNN_ARCH_KERNELS says"
    if asked:
        return build.load_library(), "compiled on this machine, as MPNN_ARCH_KERNELS says"
    path, why = find_prebuilt()
    if path is not None:
        try:
            return build.open_library(path), f"prebuilt for {path.stem}: {why}"
        except BuildError as error:
            why = str(error)
    try:
        return build.load_library(), f"compiled on this machine: {why}"
    except BuildError as error:
        raise BuildError(f"{why}, and compiling them failed: {error}") from error
