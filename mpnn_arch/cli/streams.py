"""Standard streams that are closed, or whose encoding is not UTF-8, as those of a cron job."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from typing import Any

_PLAIN = {"±": "+-", "…": "..."}
_HANDLER = "mpnn_arch.plain"


class Progress:
    """Standard error, without what a full disk does not take: a log that grows ends no training."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        """Write ``text``, if there is room."""
        try:
            return sys.stderr.write(text)
        except OSError as error:
            _check_full(error)
            return len(text)

    def flush(self) -> None:
        """Flush what there is room for."""
        try:
            sys.stderr.flush()
        except OSError as error:
            _check_full(error)


def _check_full(error: OSError) -> None:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise error


def prepare_streams() -> None:
    """Make the standard streams take whatever is written to them."""
    _open_closed()
    _replace_what_cannot_be_encoded()


def _open_closed() -> None:
    """Open ``os.devnull`` in place of standard streams that are closed.

    The next file that is opened, such as a ledger, would get the number of the stream, and with it
    whatever a library writes to standard error.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _replace_what_cannot_be_encoded() -> None:
    """Have standard output write what its encoding lacks in other characters.

    Python raises ``UnicodeEncodeError`` there, after all the work is done. A ± becomes ``+-``; a
    byte of a file name that is no character is written as that byte; anything else becomes
    ``\\xf6``, as on standard error.
    """
    codecs.register_error(_HANDLER, _plain)
    stream = sys.stdout
    if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # One character at a time: bytes of a file name may stand beside letters.
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    escaped = character.encode("ascii", "backslashreplace").decode()
    return _PLAIN.get(character, escaped), error.start + 1
