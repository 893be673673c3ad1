"""A lock on a folder that names its holder, and is free when its holder has ended."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_error
from mpnn_arch.io.processes import start_of


class FolderLock:
    """Held by the one process that writes into a folder.

    The operating system holds the lock (``flock``) and drops it when the process ends, however it
    ends: the lock of a process that was killed is taken over. The text of the file only says who
    the holder is. The file is removed when the lock is released.

    Args:
        path: of the lock file, in the folder; a symbolic link is not followed.
        what: what is locked, for the message, as ``"the run directory runs/ring"``.

    Attributes:
        taken_over_from: on entering, the holder that ended without releasing the lock, in words;
            None if there was none.

    Raises:
        InputError: on entering, if another process holds the lock, or the file cannot be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        self.taken_over_from: str | None = None
        self._file: int | None = None

    def __enter__(self) -> FolderLock:
        while self._file is None:
            file = self._open()
            if not self._take(file):
                holder = _wait_for_holder(file)
                os.close(file)
                raise InputError(
                    f"{self.what} is being written by {holder}; wait for it to end, or stop it"
                )
            # The holder before may have removed the file between the two calls.
            if self._is_at_path(file):
                self._file = file
            else:
                os.close(file)
        self.taken_over_from = _read(self._file)
        about = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "start_ticks": start_of(os.getpid()),
        }
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, (json.dumps(about) + "\n").encode(), 0)
        except OSError as error:  # a full disk
            self.__exit__(None, None, None)
            raise write_error(self.path, error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            if self._is_at_path(self._file):
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(self.path, flags, 0o666)
        except OSError as error:
            raise write_error(self.path, error) from None

    def _take(self, file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            os.close(file)
            raise InputError(
                f"{self.what} lies on a disk that has no locks ({error.strerror}); use another disk"
            ) from None
        return True

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.lstat(self.path))
        except FileNotFoundError:
            return False


def lock_holder(path: Path) -> str | None:
    """The process that holds the lock at ``path``, in words; None if none does."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return _wait_for_holder(file)
    finally:
        os.close(file)


def _wait_for_holder(file: int) -> str:
    for _ in range(10):
        holder = _read(file)
        if holder is not None:
            return holder
        time.sleep(0.01)  # the holder has just taken the lock, and not yet written who it is
    return "another process"


def _read(file: int) -> str | None:
    """The process that the file names, in words."""
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        mine = " (this process)" if holder["pid"] == os.getpid() else ""
        return f"process {holder['pid']}{mine} on {holder['host']} since {holder['started']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
