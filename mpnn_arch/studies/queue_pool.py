"""A pool with a thread for each worker, which puts what the worker sent into one queue."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from mpnn_arch.studies.jobs import Job
from mpnn_arch.studies.pool import Events

_MOST_BATCH = 1000  # events in one transaction


class QueuePool:
    """What pools of remote workers share; see :class:`~mpnn_arch.studies.pool.Pool`.

    A subclass starts threads that call :meth:`put`, and defines what a worker is. Events of workers
    that were forgotten are dropped: their trials have gone to others.

    Args:
        kind: first part of the workers' names.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._queue: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._names: set[str] = set()
        self._started = 0
        self._stopping = threading.Event()

    def _new_name(self) -> str:
        self._started += 1
        name = f"{self._kind}/{socket.gethostname()}/{os.getpid()}/{self._started}"
        self._names.add(name)
        return name

    def put(self, worker: str, event: dict[str, Any]) -> None:
        """Hand on what a worker sent; called from any thread."""
        self._queue.put((worker, event))

    def take(self, seconds: float) -> Events:
        """What has come in, after waiting for anything at most so long."""
        until = time.monotonic() + seconds
        events: Events = []
        while len(events) < _MOST_BATCH:
            try:
                left = 0.0 if events else max(0.0, until - time.monotonic())
                worker, event = self._queue.get(timeout=left) if left else self._queue.get_nowait()
            except queue.Empty:
                return events
            if worker not in self._names:
                continue
            events.append((worker, event))
            if event.get("leaves") or event["is"] == "lost":
                self._forget(worker)
        return events

    def _forget(self, worker: str) -> None:
        """The worker is not used again; a subclass ends it."""
        self._names.discard(worker)

    def kill(self, workers: Sequence[str]) -> Events:
        """End these workers; what they had sent before is returned."""
        self._end(workers)
        events = self.take(0.0)
        for worker in workers:
            self._forget(worker)
        return [(worker, event) for worker, event in events if event["is"] != "lost"]

    def _end(self, workers: Sequence[str]) -> None:
        """Stop these workers at once; for a subclass."""

    def submit(self, worker: str, job: Job) -> None:
        """See :class:`~mpnn_arch.studies.pool.Pool`."""
        raise NotImplementedError


def lost(reason: str, *, began: bool = True) -> dict[str, Any]:
    """The event of a worker that has ended."""
    return {"is": "lost", "reason": " ".join(reason.split())[:500], "began": began}
