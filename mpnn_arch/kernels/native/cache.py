"""The folder of compiled libraries: who owns it, and whether a library is the one built there.

A library is code that runs as this user. It is loaded only from a folder that belongs to this user
and that nobody else can write, and only if its SHA-256 stands in the manifest beside it
(``<library>.sha256``), so that a truncated, empty or foreign file is built again. Nothing here
follows a symlink within the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is compiled
    fcntl = None  # type: ignore[assignment]

#: Whether this system has the locks and owners of files that a cache of libraries relies on.
IS_SUPPORTED = fcntl is not None

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LARGEST_LIBRARY = 1 << 28  # bytes; ours is a few megabytes


def trusted_folder(directory: Path | None) -> Path | None:
    """``directory``, or this user's own folder in it where others may write ``directory``.

    Both are created where they are missing. None where neither belongs to this user alone, or
    nothing can be created.
    """
    if directory is None:
        return None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve()
        if _is_private(os.stat(directory)):
            return directory
        own = directory / f"kernels-{os.geteuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(own)
    except OSError:
        return None
    return own if stat.S_ISDIR(found.st_mode) and _is_private(found) else None


def is_intact(library: Path) -> bool:
    """Whether ``library`` is the file that :func:`publish` wrote, by its manifest."""
    try:
        written = _read(_manifest(library), 1024).split()
        return written == [hashlib.sha256(_read(library, _LARGEST_LIBRARY)).hexdigest().encode()]
    except OSError:
        return False


def publish(built: Path, library: Path) -> None:
    """Move a library into place with its manifest; a reader sees a matching pair or neither."""
    built.chmod(0o644)
    digest = hashlib.sha256(_read(built, _LARGEST_LIBRARY)).hexdigest()
    manifest = built.with_name(f"{built.name}.sha256")
    handle = os.open(manifest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{digest}\n")
    os.replace(built, library)  # replaces a symlink, not what it points to
    os.replace(manifest, _manifest(library))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder's lock, so that of two processes one compiles and the other waits.

    Raises:
        OSError: the lock cannot be opened, or is a symlink.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(folder / "build.lock", flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{folder / 'build.lock'} is not a file")
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep(folder: Path, prefix: str) -> None:
    """Remove the folders that killed builds have left; the caller holds the lock."""
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


def _manifest(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _is_private(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _check_regular(found: os.stat_result, path: Path) -> None:
    if not (stat.S_ISREG(found.st_mode) and _is_private(found)):
        raise OSError(f"{path} is not a file of this user alone")


def _read(path: Path, most: int) -> bytes:
    """The bytes of a regular file that nobody else can write; ``most`` is the largest size."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        _check_regular(found, path)
        if found.st_size > most:
            raise OSError(f"{path} is {found.st_size} bytes, more than {most}")
        return file.read(most)
