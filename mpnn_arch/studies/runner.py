"""Trains the trials of a study with worker processes on this machine."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from mpnn_arch.errors import InputError
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.interrupts import Interrupts
from mpnn_arch.studies.recording import LAST, Recorder, about, storage_error
from mpnn_arch.studies.tasks import decode, encode

GRACE = 1.5
"""Seconds that workers get to end their epoch after Ctrl-C."""

_MOST_BATCH = 256  # messages of one worker in one transaction
_MOST_LOST = 5  # workers in a row that die before they say anything


class Starter(Protocol):
    """What starts workers, see :class:`~mpnn_arch.studies.nursery.Nursery`."""

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
    process: int | None = None
    trial: sqlite3.Row | None = None  # its lease
    ended: bool = False


class Driver:
    """Hands out trials, and is the one that writes what comes back into the ledger.

    Workers send over a channel each and never open the ledger. What came in is written in one
    transaction, and only then files are removed and the watcher is called. A worker counts as lost
    when its process has ended, and by no other sign.

    Args:
        recorder: of the study.
        watch: called after every transaction with each event that it recorded.
        starter: starts workers.
    """

    def __init__(
        self, recorder: Recorder, *, watch: Callable[[dict[str, Any]], None], starter: Starter
    ) -> None:
        self.recorder = recorder
        self.ledger = recorder.ledger
        self._watch = watch
        self._starter = starter
        self._workers: list[_Worker] = []
        self._started = 0
        self._lost_in_a_row = 0
        self._storage: str | None = None

    def run(self, interrupts: Interrupts) -> None:
        """Train until nothing is queued.

        Raises:
            KeyboardInterrupt: Ctrl-C; everything is recorded.
            InputError: the folder cannot be written, or workers cannot be started.
        """
        try:
            while not (interrupts.asked or self._storage):
                self._hand_out()
                if not any(worker.trial for worker in self._workers):
                    return
                self._take_in(0.25)
        finally:
            self._end()
        if self._storage:
            raise storage_error(self._storage)
        raise KeyboardInterrupt

    # -- handing out --------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give a queued trial to every idle worker, and start workers up to their number."""
        idle = [worker for worker in self._workers if worker.trial is None]
        most = self.recorder.settings.workers - len(self._workers) + len(idle)
        queued = self.ledger.query("SELECT id FROM trial WHERE state = 'queued' LIMIT ?", most)
        wanted = len(list(queued))
        if not wanted:
            return
        while len(idle) < wanted:
            idle.append(self._start_worker())
        with self.ledger.transaction():
            for worker in idle[:wanted]:
                worker.trial = self.ledger.lease(worker.name)
        crash_point("lease.given")
        for worker in idle[:wanted]:
            assert worker.trial is not None  # nobody else writes
            task = encode({"do": "train", "task": self.recorder.task(worker.trial).to_dict()})
            # One that has just died is found out when its channel is read.
            with suppress(OSError):
                worker.connection.send_bytes(task)

    def _start_worker(self) -> _Worker:
        self._started += 1
        name = f"{os.uname().nodename}/{os.getpid()}/{self._started}"
        worker = _Worker(name, self._starter.start())
        self._workers.append(worker)
        return worker

    # -- taking in ----------------------------------------------------------------------------

    def _take_in(self, seconds: float) -> None:
        """Record what has come in, after waiting for something at most so long."""
        by_channel: dict[Any, _Worker] = {w.connection: w for w in self._workers}
        ready: list[Any] = wait(list(by_channel), seconds)
        events: list[tuple[_Worker, dict[str, Any]]] = []
        for channel in ready:
            worker = by_channel[channel]
            for _ in range(_MOST_BATCH):
                try:
                    events.append((worker, decode(channel.recv_bytes())))
                    if not channel.poll(0):
                        break
                except (EOFError, OSError):
                    worker.ended = True
                    break
        lost = [worker for worker in self._workers if worker.ended]
        if not events and not lost:
            return
        recorded: list[dict[str, Any]] = []
        with self.ledger.transaction():
            for worker, event in events:
                recorded += self._record(worker, event)
            for worker in lost:
                recorded += self._record_loss(worker)
        for worker in [worker for worker in self._workers if worker.ended]:
            worker.connection.close()
            self._workers.remove(worker)
        for event in recorded:
            self.recorder.clean_up(event)
            self._watch(event)
        if self._lost_in_a_row >= _MOST_LOST:
            raise InputError("worker processes end before they begin; see the messages above")

    def _record(self, worker: _Worker, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Write one message into the ledger; return what is worth showing."""
        kind = event["is"]
        if kind == "hello":
            worker.process = event["process"]
            self._lost_in_a_row = 0
            return []
        row = worker.trial
        if row is None or (event["id"], event["lease"]) != (row["id"], row["lease"]):
            if kind == "epoch":  # late or repeated: the ledger compares it
                self.ledger.record_epoch(
                    event["id"], event["lease"], event["metrics"], wall=event["wall"]
                )
            return []
        recorded = self.recorder.record(row, event)
        if kind == "storage":
            self._storage = event["reason"]
        if kind in LAST:
            worker.trial = None
            worker.ended = kind in ("failed", "storage")
        return recorded

    def _record_loss(self, worker: _Worker) -> list[dict[str, Any]]:
        """Its process ended: the trial it had, if any, is queued again or given up."""
        row, worker.trial = worker.trial, None
        if worker.process is None:  # before it began
            self._lost_in_a_row += 1
            if row is not None:
                self.ledger.release(row["id"], row["lease"], "the worker did not start")
            return []
        if row is None:
            return []
        reason = self._starter.ending(worker.process)
        gone = self.ledger.fail(row["id"], row["lease"], reason, outcome="killed")
        return [{**about(row), "is": "failed", "reason": reason, "given_up": gone}]

    # -- the end --------------------------------------------------------------------------------

    def _end(self) -> None:
        """Stop all workers, record what they still gave, and queue what they had."""
        try:
            for worker in self._workers:
                with suppress(OSError):
                    worker.connection.send_bytes(encode({"do": "stop"}))
            until = time.monotonic() + GRACE
            while any(w.trial for w in self._workers) and time.monotonic() < until:
                self._take_in(0.1)
            held = [worker for worker in self._workers if worker.trial is not None]
            for worker in held:
                if worker.process is not None:
                    with suppress(ProcessLookupError):
                        os.kill(worker.process, signal.SIGKILL)
            # What a killed worker had sent is still in its channel.
            events = [(worker, event) for worker in held for event in _rest(worker)]
            with self.ledger.transaction():
                for worker, event in events:
                    self._record(worker, event)
                for worker in held:
                    if worker.trial is not None:
                        row, worker.trial = worker.trial, None
                        self.ledger.release(row["id"], row["lease"], "stopped")
        finally:
            for worker in self._workers:
                worker.connection.close()  # reading its end, it ends
            self._workers = []


def _rest(worker: _Worker) -> list[dict[str, Any]]:
    """The messages that are left in the channel of a worker that was killed."""
    found: list[dict[str, Any]] = []
    with suppress(EOFError, OSError):
        while worker.connection.poll(1.0 if worker.process else 0.0):
            found.append(decode(worker.connection.recv_bytes()))
    return found
