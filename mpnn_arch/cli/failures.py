"""Every way in which a command can end, as an exit code and at most one line on standard error.

======================  =========  =================================================================
what escaped            exit code  what it is
======================  =========  =================================================================
nothing                 0          the command did its work
``InputError``, usage   2          a mistake of the user's, with its fix
``OSError``, memory     2          the machine lacks something: room on a disk, a permission, memory
Ctrl-C                  130        as a shell reports it; quiet
a closed pipe           141        as a shell reports it; quiet
anything else           1          a mistake of ours
======================  =========  =================================================================

``MPNN_ARCH_TRACEBACK=1`` also prints the traceback.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from mpnn_arch.cli.streams import prepare_streams
from mpnn_arch.errors import InputError

TRACEBACK = "MPNN_ARCH_TRACEBACK"

# Messages of torch that are no class of their own.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|storage size calculation overflowed"
    r"|numel: integer multiplication overflow|invalid buffer size|tensor size is too large",
    re.I,
)
# The loader of shared libraries says so where `ulimit -v` is reached.
_UNMAPPED = "failed to map segment"
_MORE_MEMORY = "raise the limit of memory (ulimit -v), or lift it"
_LONGEST_WORD, _LONGEST = 200, 2000


class ClosedPipe(Exception):
    """Who read the output has gone; no ``OSError``, with which click would end a command itself."""


@contextmanager
def past_click() -> Iterator[None]:
    """Let a closed pipe through click, which makes it an exit code of 1.

    Raises:
        ClosedPipe: in place of ``BrokenPipeError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        raise ClosedPipe from error


def run_script(main: Callable[[], object]) -> None:
    """Run the main function of a script, and exit as a command does, under the script's name."""
    prepare_streams()
    sys.exit(exit_code_of(main, Path(sys.argv[0]).stem))


def exit_code_of(command: Callable[[], object], name: str = "mpnn-arch") -> int:
    """Run ``command``; print one line for what escapes it, and return the exit code.

    Args:
        command: what is run.
        name: of the program, with which the line begins.
    """
    code = _code_of(command, name)
    try:
        sys.stderr.flush()
    except (OSError, ValueError):  # a full disk, which has no room for progress either
        _discard(sys.stderr)
    return code


def _code_of(command: Callable[[], object], name: str) -> int:
    def fail(code: int, message: str, error: BaseException) -> int:
        return _fail(code, f"{name}: {one_line(message)}", error)

    try:
        result = command()
        sys.stdout.flush()  # a closed pipe or a full disk may be noticed only here
        return result if isinstance(result, int) and not isinstance(result, bool) else 0
    except SystemExit as stop:
        cause = stop.__context__
        if isinstance(cause, OSError) and cause.errno == errno.EPIPE:  # rich has caught it
            return _closed_pipe(cause)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (KeyboardInterrupt, click.exceptions.Abort) as error:
        return fail(130, "interrupted", error)
    except click.ClickException as error:
        _show_traceback(error)
        _quietly(error.show)
        return 2
    except (BrokenPipeError, ClosedPipe) as error:
        return _closed_pipe(error)
    except InputError as error:
        return fail(2, str(error), error)
    except MemoryError as error:
        return fail(2, _no_memory(error), error)
    except OSError as error:
        if error.errno == errno.EPIPE:
            return _closed_pipe(error)
        return fail(2, _of_the_system(error), error)
    except Exception as error:
        if isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)):
            return fail(2, _no_memory(error), error)
        if isinstance(error, ImportError) and _UNMAPPED in str(error):
            return fail(2, f"a library cannot be loaded ({error}); {_MORE_MEMORY}", error)
        kind = type(error).__name__
        hint = "" if _wants_traceback() else f"; {TRACEBACK}=1 shows where"
        return fail(1, f"an error in {name} itself, please report it{hint}: {kind}: {error}", error)


def _fail(code: int, line: str, error: BaseException) -> int:
    _show_traceback(error)
    _quietly(lambda: click.echo(line, err=True))
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # a full disk
        _discard(sys.stdout)
    return code


def one_line(message: str) -> str:
    """``message`` on one line, the middle of long words and its end left out.

    What a user typed stands in it, which may be thousands of characters, or not be printable.
    """
    words = [
        word
        if len(word) <= _LONGEST_WORD
        else f"{word[: _LONGEST_WORD // 2]}...{word[-_LONGEST_WORD // 4 :]}"
        for word in message.split()
    ]
    line = " ".join(words)
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _no_memory(error: BaseException) -> str:
    detail = f" ({error})" if str(error) else ""
    return f"there is not enough memory{detail}; use a smaller graph, model, image or batch"


def _of_the_system(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f" {' and '.join(names)}" if names else ""
    fixes = {
        errno.ENOSPC: "free some room, or write to another disk",
        errno.EDQUOT: "free some room, or write to another disk",
        errno.EFBIG: "raise the limit (ulimit -f), or write less",
        errno.EACCES: "choose another path, or ask for permission",
        errno.EPERM: "choose another path, or ask for permission",
        errno.EROFS: "choose another path",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.EISDIR: "name a file",
        errno.EEXIST: "choose another path",
        errno.ENOTDIR: "choose another path",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
    }
    return f"the system refused{where}: {what}; {fixes.get(error.errno or 0, 'check the path')}"


def _closed_pipe(error: BaseException) -> int:
    _show_traceback(error)
    _discard(sys.stdout)  # whoever read it has gone
    return 141


def _discard(stream: TextIO) -> None:
    # Python would flush again at exit, complain, and end with 120.
    devnull = os.open(os.devnull, os.O_WRONLY)
    _quietly(lambda: os.dup2(devnull, stream.fileno()))


def _wants_traceback() -> bool:
    return os.environ.get(TRACEBACK, "") not in ("", "0")


def _show_traceback(error: BaseException) -> None:
    if _wants_traceback():
        _quietly(lambda: traceback.print_exception(error))


def _quietly(write: Callable[[], object]) -> None:
    """Write to a stream that may be closed or full too."""
    try:
        write()
    except (OSError, ValueError):
        return
