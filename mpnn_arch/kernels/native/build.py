"""Compile the kernels once with the local C++ compiler, and load them.

Used in a checkout of the repository, and on a machine for which a wheel carries no prebuilt library
(:mod:`mpnn_arch.kernels.native.library` chooses). The threads need no OpenMP, see
``team.h``, so any compiler with C++17 and GCC's vector extensions will do: GCC or Clang.

The library is cached (:func:`mpnn_arch.io.cache_folder.cache_folder`) under a name with a digest of
the sources, the compiler, the flags and the processor's features, so that several machines and
versions can share the folder. What is loaded runs as this user, so it is loaded only from a folder
that nobody else can write, see :mod:`mpnn_arch.kernels.native.cache`.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mpnn_arch.io.cache_folder import cache_folder
from mpnn_arch.kernels.native.cache import (
    IS_SUPPORTED,
    is_intact,
    locked,
    publish,
    sweep,
    trusted_folder,
)

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden")
# Which products and sums are fused must not differ between tiles, or bits would depend on the
# number of threads. Where GCC tunes for processors on which chains of fused multiply-adds are slow,
# it would fuse the sums of some tiles only. Clang fuses what one expression of the source has.
GCC_FLAGS = ("--param=avoid-fma-max-bits=0",)
CLANG_FLAGS = ("-ffp-contract=on",)
_SECONDS = 300  # a build takes about 10 s; a compiler that hangs must not block training
_BUILDING = "building-"  # prefix of the folders that a build works in


class BuildError(Exception):
    """The library cannot be built or loaded; the message gives the reason and the compiler's."""


def load_library() -> ctypes.CDLL:
    """The kernels, compiled first if they are not cached.

    Raises:
        BuildError: there is no compiler, it failed, or its library does not load.
    """
    if not IS_SUPPORTED:
        raise BuildError("kernels are compiled on Linux and macOS only")
    compiler = _compiler()
    flags, name = _flags_and_name(compiler)
    folder = trusted_folder(cache_folder())
    if folder is not None:
        path = folder / name
        library = _open_cached(path)
        if library is not None:
            return library
        try:
            with locked(folder):
                library = _open_cached(path)  # another process may have built it meanwhile
                if library is not None:
                    return library
                sweep(folder, _BUILDING)
                with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=folder) as building:
                    built = _compile([*compiler, *flags], Path(building), name)
                    # Loaded where it was built: of a file at `path` that was loaded and is not
                    # ours, the loader would give the old one.
                    library = open_library(built)
                    with contextlib.suppress(OSError):
                        publish(built, path)
                return library
        except OSError:
            pass  # the folder cannot be written: use a temporary library for this process
    try:
        with tempfile.TemporaryDirectory(prefix="mpnn_arch-") as private:
            return open_library(_compile([*compiler, *flags], Path(private), name))
    except OSError as error:
        raise BuildError(f"there is no folder to compile in: {error}") from error


def _compiler() -> list[str]:
    """``$CXX``, else ``g++``: a program, perhaps with arguments, as in ``ccache g++``.

    Raises:
        BuildError: it is not on the PATH.
    """
    named = os.environ.get("CXX") or "g++"
    whole = shutil.which(named)  # a path may contain spaces
    if whole is not None:
        return [whole]
    with contextlib.suppress(ValueError):  # a quote without its end
        program, *arguments = shlex.split(named)
        found = shutil.which(program)
        if found is not None:
            return [found, *arguments]
    raise BuildError(f"there is no C++ compiler {named} on the PATH")


def _open_cached(path: Path) -> ctypes.CDLL | None:
    """The library at ``path``, if it is the one that was built there and it loads."""
    if not is_intact(path):
        return None
    try:
        return open_library(path)
    except BuildError:
        return None


def open_library(path: Path) -> ctypes.CDLL:
    """The kernels in the file ``path``.

    Raises:
        BuildError: it is not a library of kernels that loads here.
    """
    try:
        library = ctypes.CDLL(str(path))
        _ = library.places_f32, library.norm_forward_f64, library.use_own_threads
        _ = library.bf16_products, library.conv2d_grad_weight_bf16, library.few_samples_bf16
    except (OSError, AttributeError) as error:
        raise BuildError(f"the kernels in {path} do not load: {error}") from error
    return library


def numbers_of(source: Path) -> tuple[str, ...]:
    """The types of numbers that a source is compiled for, one after the other."""
    return ("float",) if source.stem.endswith("_bf16") else ("float", "double")


def _compile(compiler: list[str], folder: Path, name: str) -> Path:
    """Compile the sources into the library ``folder / name``; ``folder`` is empty and private."""
    commands, objects = [], []
    for source in sorted(SOURCES.glob("*.cpp")):
        for number in numbers_of(source):
            objects.append(f"{folder}/{source.stem}-{number}.o")
            command = [*compiler, f"-DNUMBER={number}", "-c", str(source)]
            commands.append([*command, "-o", objects[-1]])
    with ThreadPoolExecutor() as pool:
        list(pool.map(_run, commands))
    library = folder / name
    _run([*compiler, "-shared", *objects, "-o", str(library)])
    return library


def _run(command: list[str]) -> None:
    """Run a compiler's command, whose last argument is the file it writes."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"the C++ compiler did not finish in {_SECONDS} s") from error
    except OSError as error:
        raise BuildError(f"the C++ compiler does not run: {error}") from error
    said = _lines(command, done.stderr, done.stdout)
    if done.returncode:
        raise BuildError(f"the C++ compiler failed with exit code {done.returncode}: {said}")
    if not Path(command[-1]).is_file():
        raise BuildError(f"the C++ compiler reported no error and wrote no output: {said}")


def _lines(command: Iterable[str], *outputs: str) -> str:
    """The command and everything that it printed."""
    printed = [output.strip() for output in outputs if output.strip()]
    return "\n".join([" ".join(command), *(printed or ["(it printed nothing)"])])


def _flags_and_name(compiler: list[str]) -> tuple[tuple[str, ...], str]:
    """The compiler's flags, and the library's name with a digest of all that it depends on."""
    version = _version(compiler)
    own = CLANG_FLAGS if b"clang" in version else GCC_FLAGS
    machine = platform.machine().lower()
    native = "-mcpu=native" if machine in ("aarch64", "arm64") else "-march=native"
    flags = (*FLAGS, native, *own)
    digest = hashlib.sha256(" ".join([*compiler[1:], *flags]).encode())
    for source in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        digest.update(source.name.encode() + source.read_bytes())
    digest.update(version)
    digest.update(_processor().encode())
    return flags, f"block_kernels-{digest.hexdigest()[:20]}.so"


def _version(compiler: list[str]) -> bytes:
    """What ``--version`` prints."""
    command = [*compiler, "--version"]
    try:
        version = subprocess.run(command, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"the C++ compiler {command[0]} does not run: {error}") from error
    if version.returncode:
        printed = [output.decode(errors="replace") for output in (version.stderr, version.stdout)]
        raise BuildError(
            f"the C++ compiler failed with exit code {version.returncode}: "
            f"{_lines(command, *printed)}"
        )
    return version.stdout


def _processor() -> str:
    """What ``-march=native`` depends on: the processor's features, where the system lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    fields = ("flags", "Features", "model", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(fields)}))
