"""The kernels that a wheel carries, built ahead for families of processors.

A wheel is for one system (Linux, macOS or Windows, x86-64 or arm64) and holds one library per
family in the folder ``prebuilt``: ``x86_64_v4`` (AVX-512), ``x86_64_v3`` (AVX2 and fused
multiply-adds) and ``aarch64``. The script ``.ci/wheels`` makes them. A copy of the repository has
none.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "prebuilt"

#: Suffix of a library by ``sys.platform``.
SUFFIXES = {"linux": ".so", "darwin": ".dylib", "win32": ".dll"}

# What torch found the processor to have -> families whose libraries run on it, the fastest first,
# and why. Torch asks the processor and the operating system, by the same rule for its own kernels.
_X86 = {
    "AVX512": (("x86_64_v4", "x86_64_v3"), "the processor has AVX-512"),
    "AVX2": (("x86_64_v3",), "the processor has AVX2 and not AVX-512"),
}


def families() -> tuple[tuple[str, ...], str]:
    """The families that this processor belongs to, the fastest first, and why, in words.

    ``ATEN_CPU_CAPABILITY=avx2``, which torch reads, also chooses here.
    """
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return ("aarch64",), f"the processor is {machine}"
    found = torch.backends.cpu.get_cpu_capability()
    if machine not in ("x86_64", "amd64"):
        return (), f"the processor is {machine}"
    return _X86.get(found, ((), "the processor has no AVX2"))


def find_prebuilt(folder: Path = FOLDER) -> tuple[Path | None, str]:
    """The prebuilt library for this processor, and why it is this one, or why there is none."""
    names, why = families()
    for name in names:
        path = folder / f"{name}{SUFFIXES.get(sys.platform, '.so')}"
        if path.is_file():
            return path, why
    if names and not folder.is_dir():
        return None, "this copy of the package carries no prebuilt kernels"
    return None, f"no kernels are prebuilt for this machine: {why}"
