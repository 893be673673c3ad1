"""A lock on a folder that names its holder, and is free when its holder has ended."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from mpnn_arch.errors import InputError
from mpnn_arch.io.file_locks import O_NOFOLLOW, read_at_start, release, try_lock, write_at_start
from mpnn_arch.io.files import shown_path, write_error
from mpnn_arch.io.processes import start_of

_TRIES = 10  # a hundredth of a second apart


class FolderLock:
    """A lock that the one process that writes into a folder holds.

    The operating system holds the lock (:mod:`mpnn_arch.io.file_locks`) and drops it when the
    process ends, however it ends: the lock of a process that was killed is taken over. The text of
    the file only says who the holder is. The file is removed when the lock is released.

    Args:
        path: of the lock file, in the folder; a symbolic link is not followed.
        what: what is locked, for the message, as ``"the study runs/ring"``.

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
            # The previous holder may have removed the file between the two calls.
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
            write_at_start(self._file, (json.dumps(about) + "\n").encode())
        except OSError as error:  # a full disk
            self.__exit__()
            raise write_error(self.path, error) from None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            release(self._file, self.path if self._is_at_path(self._file) else None)
            self._file = None

    def check_held(self) -> None:
        """Whether this process still is the only one that can hold the lock.

        Raises:
            InputError: its file was deleted or replaced, so that another process gets the lock.
        """
        if self._file is None or not self._is_at_path(self._file):
            raise InputError(
                f"the file {shown_path(self.path)} was deleted or replaced, by which this process "
                f"lost its lock on {self.what}; give the same command again to go on"
            )

    def _open(self) -> int:
        try:
            flags = os.O_RDWR | os.O_CREAT | O_NOFOLLOW
            return os.open(self.path, flags, 0o666)
        except OSError as error:
            raise write_error(self.path, error) from None

    def _take(self, file: int) -> bool:
        try:
            for _ in range(_TRIES):
                if try_lock(file):
                    return True
                time.sleep(0.01)  # one who asks for the holder has a lock for a moment
            return False
        except OSError as error:
            os.close(file)
            raise InputError(
                f"{self.what} lies on a disk that has no locks ({error.strerror}); use another disk"
            ) from None

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.lstat(self.path))
        except OSError:
            return False


def lock_holder(path: Path) -> str | None:
    """The process that holds the lock at ``path``, in words; None if none does."""
    try:
        file = os.open(path, os.O_RDONLY | O_NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        return None if try_lock(file, shared=True) else _wait_for_holder(file)
    except OSError:
        return _wait_for_holder(file)
    finally:
        os.close(file)


def _wait_for_holder(file: int) -> str:
    for _ in range(_TRIES):
        holder = _read(file)
        if holder is not None:
            return holder
        time.sleep(0.01)  # the holder has just taken the lock, and not yet written who it is
    return "another process"


def _read(file: int) -> str | None:
    """The process that the file names, in words."""
    try:
        holder = json.loads(read_at_start(file, 4096))
        mine = " (this process)" if holder["pid"] == os.getpid() else ""
        return f"process {holder['pid']}{mine} on {holder['host']} since {holder['started']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
