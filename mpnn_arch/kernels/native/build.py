"""Compile the kernels with the machine's own compiler, once, and load them.

The library lies in ``$MPNN_ARCH_CACHE``, else ``$XDG_CACHE_HOME/mpnn_arch``, else
``~/.cache/mpnn_arch``, under a name that holds a digest of the sources, the compiler, the flags and
the processor's features: another machine or version compiles its own beside it.
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
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC")
_SECONDS = 300  # a build takes about 10; one that hangs must not hang the training


class BuildError(Exception):
    """Why there is no library, in one sentence."""


def load_library() -> ctypes.CDLL:
    """The kernels, compiled now if this machine has not compiled them yet.

    Raises:
        BuildError: no compiler, or it failed, or its library does not load.
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
        # The directory cannot be made or written: keep a library for this process alone.
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
        made = f"{directory}/{path.name}"
        _run([compiler, "-shared", "-fopenmp", *objects, "-o", made])
        os.replace(made, path)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"the C++ compiler did not finish in {_SECONDS} s") from error
    if done.returncode:
        said = done.stderr.strip()
        first = next((line for line in said.splitlines() if "error" in line), said[:300])
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
    """What ``-march=native`` sees: the processor's features, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kinds = ("flags", "Features", "model", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kinds)}))


def _cache_directory() -> Path:
    told = os.environ.get("MPNN_ARCH_CACHE")
    if told:
        return Path(told)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mpnn_arch"


class _locked:
    """Hold the directory's lock, so that of two processes one compiles and the other waits."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.file = open(directory / "build.lock", "w")  # noqa: SIM115

    def __enter__(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()
