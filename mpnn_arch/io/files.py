"""Atomic file writes."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mpnn_arch.checks import check_path
from mpnn_arch.errors import InputError
from mpnn_arch.io.temporary import sweep, temporary_folder


class WriteError(InputError, OSError):
    """A file that cannot be written: the path, the reason and the fix, in one sentence.

    It is an ``OSError`` too, so that code which can do without the file catches it as such.
    """


class ReadError(InputError, OSError):
    """A file that is there and cannot be read, with the reason and the fix; it may be sound."""


# Folders from which this process has removed what others abandoned.
_SWEPT: set[tuple[int, Path]] = set()

_MORE_FILES = "raise the limit of open files (ulimit -n)"
_CHANGE_PERMISSIONS = "change the permissions, or choose another folder"
_FIXES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or write to another disk",
    errno.EROFS: "write to another disk",
    errno.EACCES: _CHANGE_PERMISSIONS,
    errno.EPERM: _CHANGE_PERMISSIONS,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.EEXIST: "there is a file of that name; choose another",
    errno.ENOENT: "create its folder, or choose another",
    errno.ELOOP: "remove the symbolic links that point in a circle",
    errno.EIO: "check the disk, or write to another",
    errno.EISDIR: "there is a folder of that name; remove it, or choose another",
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
}
_FIXES_OF_READING = {
    errno.EACCES: "change the permissions",
    errno.EPERM: "change the permissions",
    errno.EMFILE: _MORE_FILES,
    errno.ENFILE: _MORE_FILES,
}


def write_whole(
    path: str | os.PathLike[str],
    write: Callable[[Path], object],
    *,
    previous: str | os.PathLike[str] | None = None,
) -> None:
    """Write ``path`` atomically: ``write`` fills a temporary file, which is then renamed.

    A reader, even after a crash or a power failure, sees the old file or the new one, never a
    partial one: the content is on the disk before the name is. What killed processes left half
    written in the same folder is removed first.

    Args:
        path: the file; an existing one is replaced, and so is a symbolic link, not its target.
        write: fills the file whose path it is given; the path has the name of ``path``.
        previous: if given, an existing file is kept under this name, in the same folder. There is
            always a file at ``path``, except for a moment on a file system without hard links.

    Raises:
        WriteError: the file cannot be written; an existing one is as it was, and nothing is left.
    """
    path = check_writable(path)
    folder = path.parent
    _sweep_once(folder)
    try:
        with temporary_folder(folder) as own:
            temporary = own / path.name
            mode = _create(temporary)
            write(temporary)
            # Some libraries make a new file, which only its owner may read.
            temporary.chmod(mode)
            sync(temporary)
            if previous is not None and path.exists():
                _keep(path, Path(previous), own)
            os.replace(temporary, path)
            sync(folder)
    except InputError:
        raise
    except OSError as error:
        raise write_error(path, error) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` atomically, as UTF-8.

    Raises:
        WriteError: the file cannot be written.
    """
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))


def check_writable(path: str | os.PathLike[str]) -> Path:
    """``path``, if a file can be written there as far as can be seen without writing.

    Raises:
        InputError: as for :func:`mpnn_arch.checks.check_path`.
        WriteError: a folder, a device, a name that is too long, or a folder that does not exist or
            that this user may not write.
    """
    path = check_path(path)
    try:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:  # a new file, or a symbolic link to nothing
            mode = stat.S_IFREG
            os.stat(path.parent)
        if stat.S_ISDIR(mode):
            raise WriteError(f"cannot write {path}: it is a folder; give the name of a file in it")
        if not stat.S_ISREG(mode):
            raise WriteError(f"cannot write {path}: it is a device or a pipe; give another name")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except InputError:
        raise
    except OSError as error:
        raise write_error(path, error) from None
    return path


def check_folder(path: str | os.PathLike[str]) -> Path:
    """``path``, if it is a folder that can be written, or one that can be created.

    Raises:
        InputError: as for :func:`mpnn_arch.checks.check_path`.
        WriteError: a file, a name that is too long, or no permission.
    """
    path = existing = check_path(path)
    try:
        while True:
            try:
                mode = os.stat(existing).st_mode
                break
            except FileNotFoundError:
                if existing.is_symlink():
                    raise WriteError(
                        f"cannot write {shown_path(path)}: {shown_path(existing)} is a symbolic "
                        f"link to {shown_path(os.readlink(existing))}, which is not there; create "
                        "that folder, or remove the link"
                    ) from None
                existing = existing.parent
        if not stat.S_ISDIR(mode):
            code = errno.EEXIST if existing == path else errno.ENOTDIR
            raise OSError(code, os.strerror(code))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except InputError:
        raise
    except OSError as error:
        raise write_error(path, error) from None
    return path


def make_folder(path: str | os.PathLike[str]) -> Path:
    """``path`` as a folder in which files can be written, created with its parents if need be.

    Raises:
        InputError, WriteError: as for :func:`check_folder`, or it cannot be created.
    """
    path = check_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from None
    return path


def remove(path: str | os.PathLike[str]) -> None:
    """Remove the file at ``path``, if there is one.

    Raises:
        WriteError: it cannot be removed.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from None


def write_error(path: str | os.PathLike[str], error: OSError) -> WriteError:
    """The error that says why ``path`` cannot be written, and what to do."""
    # numpy reports a full disk without an error number.
    unknown = "free some space, raise the limit of a file's size (ulimit -f), or use another folder"
    fix = _FIXES.get(error.errno or 0, unknown)
    return WriteError(f"cannot write {shown_path(path)} ({error.strerror or error}): {fix}")


def read_error(path: str | os.PathLike[str], error: OSError) -> ReadError:
    """The error that says why the file at ``path`` cannot be read, and what to do."""
    fix = _FIXES_OF_READING.get(error.errno or 0, "check the disk")
    return ReadError(f"cannot read {shown_path(path)} ({error.strerror or error}): {fix}")


def shown_path(path: str | os.PathLike[str]) -> str:
    """``path`` for a message: printable, and its middle left out where it is long."""
    text = os.fspath(path)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 200 else f"{text[:90]}...{text[-90:]} ({len(text)} characters)"


def typed_path(path: str | os.PathLike[str]) -> str:
    """``path`` as it is typed in a command: one word to the shell, and no option."""
    text = os.fspath(path)
    text = os.path.join(os.curdir, text) if text.startswith("-") else text
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # one that cannot be read, or a system that does not open folders
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has nothing to wait for
            raise
    finally:
        os.close(handle)


def _create(path: Path) -> int:
    """Create an empty file, and return the permissions that the user's umask gives to it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def _keep(path: Path, name: Path, own: Path) -> None:
    """Give the file at ``path`` the second name ``name``, replacing the file of that name."""
    link = own / f"{name.name}.link"
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        os.replace(path, name)
    else:
        os.replace(link, name)


def _sweep_once(folder: Path) -> None:
    """Sweep ``folder``, once in a process: a large folder is not listed at every write."""
    with suppress(OSError):
        key = (os.getpid(), folder.resolve())
        if key not in _SWEPT:
            _SWEPT.add(key)
            sweep(folder)
