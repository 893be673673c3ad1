"""Temporary folders beside the files they become, and the removal of those that were abandoned.

A file is written in a folder of its own, ``.mpnn-arch-PLACE-PID-START-RANDOM``, which is created in
the folder of the final file. A library that makes temporary files next to the one it writes
(safetensors does) then leaves them in there too. The name says which process made the folder: a
process that was killed cannot remove it, so the next one that writes into the same folder does.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from mpnn_arch.io.processes import is_running, place, start_of

_PREFIX = ".mpnn-arch-"
_NAME = re.compile(r"\.mpnn-arch-([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,20})-[A-Za-z0-9_]{8}")

_OLD_AGE = 3600.0
"""Seconds without a change after which another host's folder is taken for abandoned."""


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A new folder in ``folder``, removed at the end with what is still in it."""
    made = new_temporary_folder(folder)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def new_temporary_folder(folder: Path) -> Path:
    """A new folder in ``folder``, named after this process; the caller removes or renames it."""
    pid = os.getpid()
    prefix = f"{_PREFIX}{place()}-{pid}-{start_of(pid)}-"
    return Path(tempfile.mkdtemp(dir=folder, prefix=prefix))


def sweep(folder: Path) -> None:
    """Remove what processes that no longer run left half written in ``folder``.

    What a running process writes is never touched. Where that cannot be known, because the process
    ran on another host, an hour without a change decides, by the clock of the file system: that of
    a network differs from this host's.

    Args:
        folder: searched itself, without its subfolders.
    """
    now = cache(partial(_time_in, folder))
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _is_abandoned(entry, now):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)


def _time_in(folder: Path) -> float:
    """Now, as a file that is made in ``folder`` is dated."""
    made = new_temporary_folder(folder)
    try:
        return made.stat().st_mtime
    finally:
        made.rmdir()


def _is_abandoned(entry: os.DirEntry[str], now: Callable[[], float]) -> bool:
    ours = _NAME.fullmatch(entry.name)
    if ours is None:
        return False
    where, pid, start = ours[1], int(ours[2]), int(ours[3])
    return not is_running(pid, start) if where == place() else _is_old(entry, now)


def _is_old(entry: os.DirEntry[str], now: Callable[[], float]) -> bool:
    try:
        return now() - entry.stat(follow_symlinks=False).st_mtime > _OLD_AGE
    except OSError:  # also a folder in which nothing can be made
        return False
