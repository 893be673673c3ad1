"""Locks of open files, held by the operating system until the file is closed.

POSIX systems have ``flock``. Windows has locks of ranges of bytes, through ``msvcrt``; a locked
range cannot be read by others, so one byte far past the text is locked.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Refuses a symbolic link where the system can; Windows has no such flag.
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)

_FAR = 1 << 30  # the byte that is locked on Windows
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


def try_lock(file: int, shared: bool = False) -> bool:
    """Lock an open file; False if another holds it. On Windows, a shared lock is an exclusive one.

    Raises:
        OSError: the disk has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def release(file: int, path: Path | None) -> None:
    """Close a locked file, and remove it at ``path`` where that is possible."""
    if fcntl is not None and path is not None:
        with contextlib.suppress(OSError):  # of a folder that may not be written any more
            path.unlink()
    # Windows removes no open file, so another process can open this one after it is closed and
    # before it is removed; emptied, it names no holder.
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
    os.close(file)
    if fcntl is None and path is not None:
        with contextlib.suppress(OSError):
            path.unlink()


def read_at_start(file: int, most: int) -> bytes:
    """The first ``most`` bytes of an open file."""
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, most)


def write_at_start(file: int, text: bytes) -> None:
    """Write at the start of an open file."""
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, text)
