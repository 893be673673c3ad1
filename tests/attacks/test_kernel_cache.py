"""A kernel cache that is not to be trusted: others' folders, symlinks, wrong and broken files.

The library is compiled once per session; here "compiling" copies it and counts.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mpnn_arch.io.cache_folder import cache_folder
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.native import build, cache

needs_kernels = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
NOBODY = 65534


class Compiled:
    """The folders in which a library was "compiled"."""

    def __init__(self, library: Path) -> None:
        self.library, self.folders = library, list[Path]()

    def __call__(self, compiler: list[str], folder: Path, name: str) -> Path:
        self.folders.append(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        return Path(shutil.copy(self.library, folder / name))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the kernels, compiled or taken from the session's cache."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        if "MPNN_ARCH_CACHE" not in os.environ:
            patch.setenv("MPNN_ARCH_CACHE", str(folder))
        build.load_library()
        (library,) = Path(os.environ["MPNN_ARCH_CACHE"]).glob("block_kernels-*.so")
        return Path(shutil.copy(library, folder / "copy"))


@pytest.fixture
def compiled(built: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    compiled = Compiled(built)
    monkeypatch.setattr(build, "_compile", compiled)
    return compiled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(folder))
    return folder


def load() -> None:
    library = build.load_library()
    assert library.places_f32() > 0


def library_of(folder: Path) -> Path:
    (library,) = folder.glob("*.so")
    return library


def manifest_of(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


@needs_kernels
def test_a_library_is_compiled_once(folder: Path, compiled: Compiled) -> None:
    load()
    load()
    assert len(compiled.folders) == 1
    assert folder.stat().st_mode & 0o077 == 0
    assert sorted(path.suffix for path in folder.iterdir()) == [".lock", ".sha256", ".so"]


def truncate(library: Path) -> None:
    content = library.read_bytes()
    library.write_bytes(content[: len(content) // 2])


def forge(library: Path) -> None:
    """Another library, with a manifest to match: it lacks our functions."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    other = next(line.split()[-1] for line in maps if "/libm.so" in line or "/libm-" in line)
    library.write_bytes(Path(other).read_bytes())
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    manifest_of(library).write_text(f"{digest}\n")


def replace_by_symlink(library: Path) -> None:
    target = library.with_name("elsewhere")
    library.rename(target)
    library.symlink_to(target)


def manifest_by_symlink(library: Path) -> None:
    target = library.with_name("elsewhere")
    manifest_of(library).rename(target)
    manifest_of(library).symlink_to(target)


def replace_by_fifo(library: Path) -> None:
    library.unlink()
    os.mkfifo(library)


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "empty": lambda library: library.write_bytes(b""),
    "a byte more": lambda library: library.write_bytes(library.read_bytes() + b"\0"),
    "foreign": lambda library: library.write_bytes(b"\x7fELF, of another machine"),
    "foreign with a manifest": forge,
    "a symlink": replace_by_symlink,
    "a fifo": replace_by_fifo,
    "writable by others": lambda library: library.chmod(0o666),
    "no manifest": lambda library: manifest_of(library).unlink(),
    "empty manifest": lambda library: manifest_of(library).write_text(""),
    "a manifest of another": lambda library: manifest_of(library).write_text("0" * 64),
    "a manifest that is a symlink": manifest_by_symlink,
    "a manifest of no text": lambda library: manifest_of(library).write_bytes(b"\xff" * 64),
    "a long manifest": lambda library: manifest_of(library).write_bytes(b"0" * 10**6),
}


@needs_kernels
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_library_is_built_again(
    folder: Path, compiled: Compiled, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    copied = tmp_path / "copied"  # a library that is loaded already would not be read again
    shutil.copytree(folder, copied)
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(copied))
    library = library_of(copied)
    before = library.stat().st_ino
    BROKEN[kind](library)
    load()
    assert len(compiled.folders) == 2
    assert cache.is_intact(library)
    assert library.is_file()
    assert not library.is_symlink()
    assert library.stat().st_ino != before
    assert library.read_bytes() == compiled.library.read_bytes()


@needs_kernels
def test_a_folder_in_place_of_the_library(folder: Path, compiled: Compiled) -> None:
    load()
    library = library_of(folder)
    library.unlink()
    library.mkdir()
    (library / "file").touch()
    load()
    assert len(compiled.folders) == 2
    assert (library / "file").exists()


@needs_kernels
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_folder_that_others_can_write(folder: Path, compiled: Compiled, mode: int) -> None:
    load()
    library = library_of(folder)
    folder.chmod(mode)
    load()
    assert len(compiled.folders) == 2
    own = folder / f"kernels-{os.geteuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    assert library_of(own).stat().st_ino != library.stat().st_ino
    load()
    assert len(compiled.folders) == 2


@needs_kernels
@as_root
def test_a_folder_of_another_user(folder: Path, compiled: Compiled) -> None:
    load()
    os.chown(folder, NOBODY, NOBODY)
    load()
    assert len(compiled.folders) == 2
    own = folder / "kernels-0"
    assert own.is_dir()
    os.chown(own, NOBODY, NOBODY)  # the other user was here before
    planted = library_of(own)
    for _ in range(2):
        load()
    assert len(compiled.folders) == 4
    assert not any(path.is_relative_to(folder) for path in compiled.folders[2:])
    assert library_of(own) == planted


@needs_kernels
@as_root
def test_a_library_of_another_user(folder: Path, compiled: Compiled) -> None:
    load()
    os.chown(library_of(folder), NOBODY, NOBODY)
    load()
    assert len(compiled.folders) == 2
    assert library_of(folder).stat().st_uid == 0


@needs_kernels
def test_the_own_folder_is_no_symlink(folder: Path, compiled: Compiled, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / f"kernels-{os.geteuid()}").symlink_to(victim)
    load()
    assert not list(victim.iterdir())


@needs_kernels
def test_a_lock_that_is_a_symlink(folder: Path, compiled: Compiled, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder.mkdir(mode=0o700)
    (folder / "build.lock").symlink_to(victim)
    load()
    assert victim.read_text() == "precious"
    (folder / "build.lock").unlink()
    (folder / "build.lock").symlink_to(tmp_path / "absent")
    load()
    assert not (tmp_path / "absent").exists()


@needs_kernels
def test_a_lock_that_is_a_fifo(folder: Path, compiled: Compiled) -> None:
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "build.lock")
    load()
    assert len(compiled.folders) == 1


@needs_kernels
def test_a_group_that_shares_files(folder: Path, compiled: Compiled) -> None:
    before = os.umask(0o002)
    try:
        load()
        load()
    finally:
        os.umask(before)
    assert len(compiled.folders) == 1


@needs_kernels
def test_what_a_killed_build_left_is_swept(folder: Path, compiled: Compiled) -> None:
    left = folder / "building-killed"
    left.mkdir(parents=True)
    folder.chmod(0o700)
    (left / "conv-float.o").write_bytes(b"half")
    load()
    assert not list(folder.glob("building-*"))


@needs_kernels
@pytest.mark.parametrize("name", ["a" * 5000, "nowhere\n", "file/below"])
def test_no_such_folder(
    name: str, compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(tmp_path / name))
    load()
    assert len(compiled.folders) == 1


@needs_kernels
def test_threads_compile_once(folder: Path, compiled: Compiled) -> None:
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled.folders) == 1


def compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "sentences"),
    [
        ("exit 0", ["reported no error and wrote no output", "(it printed nothing)"]),
        ("echo one >&2; echo two >&2; exit 3", ["exit code 3", "one\ntwo"]),
        (
            '[ "$1" = --version ] && exit 0; for i in $(seq 500); do echo "line $i" >&2; done; '
            "echo and this; exit 1",
            ["exit code 1", "-march=native", "line 1\n", "line 500\n", "and this"],
        ),
        ("kill -9 $$", ["exit code -9"]),
    ],
)
def test_the_whole_message_of_the_compiler(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    sentences: list[str],
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "compiler", script))
    with pytest.raises(build.BuildError) as error:
        build.load_library()
    for sentence in sentences:
        assert sentence in str(error.value)


def test_the_program_true_is_no_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "true")
    with pytest.raises(build.BuildError, match="wrote no output"):
        build.load_library()
    assert not list(folder.glob("*.so"))


def test_no_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler no-such-compiler"):
        build.load_library()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MPNN_ARCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache.trusted_folder(cache_folder()) is None


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    file.write_text("no library")
    with pytest.raises(OSError):
        ctypes.CDLL(str(file))
    with pytest.raises(build.BuildError, match="do not load"):
        build.open_library(file)
