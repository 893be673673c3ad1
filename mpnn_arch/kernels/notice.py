"""A line for someone who waits: kernels compile for a while without a sign of life."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SAID: set[str] = set()


@contextmanager
def said_if_slow(text: str, seconds: float = 2.0) -> Iterator[None]:
    """Write ``text`` to stderr where the block takes longer, at a terminal or in a notebook.

    A text is written once in a process, and nothing where nobody waits, as in a log.
    """
    if text in _SAID or not _is_watched():
        yield
        return
    stream = sys.stderr

    def say() -> None:
        _SAID.add(text)
        with suppress(OSError, ValueError):  # closed meanwhile
            print(text, file=stream, flush=True)

    timer = threading.Timer(seconds, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_watched() -> bool:
    try:
        return "ipykernel" in sys.modules or sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
