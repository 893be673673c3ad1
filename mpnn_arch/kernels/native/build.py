"""Compile the kernels once with the local C++ compiler, and load them.

The library is cached in ``$MPNN_ARCH_CACHE``, else ``$XDG_CACHE_HOME/mpnn_arch``, else
``~/.cache/mpnn_arch``, under a name with a digest of the sources, the compiler, the flags and the
processor's features, so that several machines and versions can share the directory.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_SOURCES = Path(__file__).parent
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    # Where GCC tunes for processors on which chains of fused multiply-adds are slow, it fuses the
    # sums of some tiles and not of others, and bits would depend on the number of threads.
    "--param=avoid-fma-max-bits=0",
    "-fopenmp",
    "-fPIC",
)
_SECONDS = 300  # a build takes about 10 s; a compiler that hangs must not block training


class BuildError(Exception):
    """The library cannot be built or loaded; the message gives the reason in one sentence."""


def load_library() -> ctypes.CDLL:
    """The kernels, compiled first if they are not cached.

    Raises:
        BuildError: there is no compiler, it failed, or its library does not load.
    """
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        raise BuildError(f"there is no C++ compiler {os.environ.get('CXX') or 'g++'} on the PATH")
    name = f"block_kernels-{_digest(compiler)}.so"
    path = _cache_directory() / name
    try:
        with _locked(path.parent):
            if not path.is_file():
                _compile(compiler, path)
    except OSError:
        # The directory cannot be created or written: use a temporary library for this process.
        if not path.is_file():
            with tempfile.TemporaryDirectory(prefix="mpnn_arch-") as directory:
                path = Path(directory) / name
                _compile(compiler, path)
                return _open(path)
    return _open(path)


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the compiled kernels do not load: {error}") from error


def _compile(compiler: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="building-", dir=path.parent) as directory:
        commands, objects = [], []
        for source in sorted(_SOURCES.glob("*.cpp")):
            for number in ("float", "double"):
                objects.append(f"{directory}/{source.stem}-{number}.o")
                command = [compiler, *_FLAGS, f"-DNUMBER={number}", "-c", str(source)]
                commands.append([*command, "-o", objects[-1]])
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, commands))
        library = f"{directory}/{path.name}"
        _run([compiler, "-shared", "-fopenmp", *objects, "-o", library])
        os.replace(library, path)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"the C++ compiler did not finish in {_SECONDS} s") from error
    if done.returncode:
        output = done.stderr.strip()
        first = next((line for line in output.splitlines() if "error" in line), output[:300])
        raise BuildError(f"the C++ compiler failed: {first}")


def _digest(compiler: str) -> str:
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for source in sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")]):
        digest.update(source.name.encode() + source.read_bytes())
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"the C++ compiler {compiler} does not run") from error
    digest.update(version.stdout)
    digest.update(_processor().encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What ``-march=native`` depends on: the processor's features, where the system lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fields = ("flags", "Features", "model", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(fields)}))


def _cache_directory() -> Path:
    configured = os.environ.get("MPNN_ARCH_CACHE")
    if configured:
        return Path(configured)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mpnn_arch"


class _locked:
    """The directory's lock, so that of two processes one compiles and the other waits."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.file = open(directory / "build.lock", "w")  # noqa: SIM115

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()
