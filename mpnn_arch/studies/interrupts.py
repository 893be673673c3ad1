"""Ctrl-C as a question that the driver asks, not as an exception in the middle of a transaction."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask to stop: Ctrl-C, a batch system's end of a job, a terminal that is closed."""


class Interrupts:
    """While entered, the signals :data:`STOPS` only set :attr:`asked`.

    SIGHUP that is ignored stays so: ``nohup`` was asked to go on. Outside the main thread signals
    are left as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                if number in (signal.SIGINT, signal.SIGTERM) or not _is_ignored(number):
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def ignore_stops() -> None:
    """In a worker: the driver, which gets these signals too, says when to stop.

    A batch system sends SIGTERM to every process of a job at once.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
