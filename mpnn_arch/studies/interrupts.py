"""Ctrl-C as a question that the driver asks, not as an exception in the middle of a transaction."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HANG_UP: Any = getattr(signal, "SIGHUP", None)  # Windows has none
STOPS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, *([_HANG_UP] if _HANG_UP else []))
"""Signals that ask to stop: Ctrl-C, a batch system's end of a job, a terminal that is closed."""


class Interrupts:
    """While entered, the signals :data:`STOPS` only set :attr:`asked`.

    Outside the main thread signals are left as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._raises = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = answer_stops(self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._raises:
            raise KeyboardInterrupt

    @contextmanager
    def raised(self) -> Iterator[None]:
        """While entered, the signals raise: nobody asks while the user's own code runs.

        Raises:
            KeyboardInterrupt: one came, now or before.
        """
        self._raises = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._raises = False

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def answer_stops(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Have ``handler`` called for the signals :data:`STOPS`; returns the handlers before.

    A SIGHUP that is ignored stays so: under ``nohup`` a command goes on without its terminal.
    """
    before = {number: signal.getsignal(number) for number in STOPS}
    if before.get(_HANG_UP) is signal.SIG_IGN:
        del before[_HANG_UP]
    for number in before:
        signal.signal(number, handler)
    return before


def ignore_stops() -> None:
    """In a worker: the driver, which gets these signals too, says when to stop.

    A batch system sends SIGTERM to every process of a job at once.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
