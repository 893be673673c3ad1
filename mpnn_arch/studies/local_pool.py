"""Workers on this machine: a process each, with a socket each to the driver."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from mpnn_arch.studies.jobs import LAST, Job
from mpnn_arch.studies.pool import Events
from mpnn_arch.studies.tasks import decode, encode

_MOST_BATCH = 256  # messages of one worker in one transaction
# Seconds without a message that count at once: the driver itself may have been stopped.
_LONGEST_LOOK = 1.0


class Starter(Protocol):
    """What starts processes, see :class:`~mpnn_arch.studies.nursery.Nursery`."""

    def start(self) -> Connection:
        """A worker's channel."""
        ...

    def ending(self, process: int | None) -> str:
        """How a worker ended."""
        ...


@dataclass
class _Worker:
    name: str
    connection: Connection
    process: int | None = None  # known when it has said hello
    tasks: set[tuple[int, int]] = field(default_factory=set)  # of its job that have not ended
    unreported: float = 0.0  # seconds since its last message


class LocalPool:
    """Worker processes, see :class:`~mpnn_arch.studies.pool.Pool`.

    A worker counts as lost when its end of the socket is closed, which the system does when the
    process has ended.

    Args:
        starter: starts processes.
        workers: how many at a time.
        timeout: seconds after which one that has a job and sends no message is ended; None: never.
    """

    def __init__(self, starter: Starter, workers: int, timeout: float | None = None) -> None:
        self._starter = starter
        self._size = workers
        self._timeout = timeout
        self._looked = time.monotonic()
        self._workers: dict[str, _Worker] = {}
        self._started = 0

    @property
    def size(self) -> int:
        """How many workers there may be at a time."""
        return self._size

    def start(self) -> str:
        """Start a process; return the worker's name."""
        self._started += 1
        name = f"{socket.gethostname()}/{os.getpid()}/{self._started}"
        self._workers[name] = _Worker(name, self._starter.start())
        return name

    def submit(self, worker: str, job: Job) -> None:
        """Send a job to a worker."""
        if worker in self._workers:
            self._workers[worker].tasks = {(task.id, task.lease) for task in job.tasks}
            self._workers[worker].unreported = 0.0
        self._send(worker, {"do": "train", "job": job.to_dict()})

    def _send(self, worker: str, message: dict[str, Any]) -> None:
        # One that has just died is found out when its channel is read.
        with suppress(OSError, KeyError):
            self._workers[worker].connection.send_bytes(encode(message))

    def take(self, seconds: float) -> Events:
        """What the workers have sent."""
        by_channel: dict[Any, _Worker] = {w.connection: w for w in self._workers.values()}
        ready: list[Any] = wait(list(by_channel), seconds)
        events: Events = []
        for channel in ready:
            worker = by_channel[channel]
            for _ in range(_MOST_BATCH):
                try:
                    event = decode(channel.recv_bytes())
                    if event["is"] == "hello":
                        worker.process = event["process"]
                    else:
                        events.append((worker.name, event))
                    if event["is"] in LAST:
                        worker.tasks.discard((event["id"], event["lease"]))
                    if event.get("leaves"):
                        self._forget(worker)
                        break
                    if not channel.poll(0):
                        break
                except (EOFError, OSError):
                    events.append(self._lost(worker))
                    break
        return events + self._end_timed_out({by_channel[channel].name for channel in ready})

    def _end_timed_out(self, reported: set[str]) -> Events:
        """End workers that have sent no message for the timeout, whatever their process does."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST_LOOK), now
        ended: Events = []
        for worker in list(self._workers.values()):
            worker.unreported = 0.0 if worker.name in reported else worker.unreported + passed
            late = self._timeout is not None and worker.unreported > self._timeout
            if late and worker.tasks and worker.process is not None:
                ended += self.kill([worker.name])
                self._forget(worker)
                reason = f"no epoch came from it for {self._timeout:g} s, which is its --timeout"
                ended.append((worker.name, {"is": "lost", "reason": reason, "began": True}))
        return ended

    def _lost(self, worker: _Worker) -> tuple[str, dict[str, Any]]:
        self._forget(worker)
        began = worker.process is not None
        reason = self._starter.ending(worker.process) if began else "the worker did not start"
        return worker.name, {"is": "lost", "reason": reason, "began": began}

    def _forget(self, worker: _Worker) -> None:
        worker.connection.close()
        del self._workers[worker.name]

    def stop(self) -> None:
        """Ask all workers to end their jobs after the epoch in flight."""
        for name in self._workers:
            self._send(name, {"do": "stop"})

    def kill(self, workers: Sequence[str]) -> Events:
        """SIGKILL; what the workers had sent is still in their channels."""
        killed = [self._workers[name] for name in workers if name in self._workers]
        for worker in killed:
            if worker.process is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.process, signal.SIGKILL)
        return [event for worker in killed for event in self._rest(worker)]

    def _rest(self, worker: _Worker) -> Events:
        found: Events = []
        with suppress(EOFError, OSError):
            while worker.connection.poll(1.0 if worker.process else 0.0):
                event = decode(worker.connection.recv_bytes())
                if event["is"] != "hello":
                    found.append((worker.name, event))
        return found

    def close(self) -> None:
        """Close all channels; reading its end, a worker ends."""
        for worker in self._workers.values():
            worker.connection.close()
        self._workers = {}
