"""Trains the trials of a study with the workers of a pool."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.interrupts import Interrupts
from mpnn_arch.studies.jobs import LAST
from mpnn_arch.studies.ledger import about_trial
from mpnn_arch.studies.pool import Events, Pool
from mpnn_arch.studies.recording import Recorder

GRACE = 1.5
"""Seconds that workers get to end their epoch after Ctrl-C."""

_MOST_LOST = 5  # workers in a row that die before they say anything

_Held = dict[tuple[int, int], sqlite3.Row]  # trials of one worker by number and lease


class Driver:
    """Hands out trials, and is the one that writes what comes back into the ledger.

    Workers send through the pool and never open the ledger. What came in is written in one
    transaction, and only then files are removed and the watcher is called.

    Args:
        recorder: of the study.
        watch: called after every transaction with each event that it recorded.
        pool: the workers.
    """

    def __init__(
        self, recorder: Recorder, *, watch: Callable[[dict[str, Any]], None], pool: Pool
    ) -> None:
        self.recorder = recorder
        self.ledger = recorder.ledger
        self._watch = watch
        self._pool = pool
        self._workers: dict[str, _Held] = {}
        self._lost_in_a_row = 0
        self._why_lost = ""
        self._storage: str | None = None
        self._interrupts = Interrupts()

    def run(self, interrupts: Interrupts) -> None:
        """Train until nothing is queued, and no race lets anything go on.

        Raises:
            KeyboardInterrupt: Ctrl-C; everything is recorded.
            InputError: the folder cannot be written, or workers cannot be started.
        """
        self._interrupts = interrupts
        try:
            while not (interrupts.asked or self._storage):
                self._hand_out()
                if any(self._workers.values()):
                    self._take_in(0.25)
                elif not self.recorder.go_on(self._watch):
                    return
        finally:
            self._end()
        if self._storage:
            raise self.recorder.storage_error(self._storage)
        raise KeyboardInterrupt

    # -- handing out --------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give a job to every idle worker, and start workers up to their number."""
        idle = [name for name, held in self._workers.items() if not held]
        most = self._pool.size - len(self._workers) + len(idle)
        wanted = self.recorder.queued_jobs(most)
        if not wanted:
            return
        while len(idle) < wanted:
            idle.append(self._pool.start())
            self._workers[idle[-1]] = {}
        with self.ledger.transaction():
            leased = {name: self.ledger.lease(name) for name in idle[:wanted]}
        crash_point("lease.given")
        for name, rows in leased.items():
            if rows:
                self._workers[name] = {(row["id"], row["lease"]): row for row in rows}
                self._pool.submit(name, self.recorder.job(rows))

    # -- taking in ----------------------------------------------------------------------------

    def _take_in(self, seconds: float) -> None:
        """Record what has come in, after waiting for something at most so long."""
        self._write(self._pool.take(seconds))
        if self._lost_in_a_row >= _MOST_LOST:
            raise InputError(
                f"workers end before they begin ({self._why_lost}); see the messages above, if any"
            )

    def _write(self, events: Events) -> None:
        if not events:
            return
        recorded: list[dict[str, Any]] = []
        with self.ledger.transaction():
            for worker, event in events:
                recorded += self._record(worker, event)
                if event.get("leaves"):
                    self._workers.pop(worker, None)
        for event in recorded:
            self.recorder.clean_up(event)
            self._watch(event)

    def _record(self, worker: str, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Write one event into the ledger; return what is worth showing."""
        kind = event["is"]
        if kind == "lost":
            return self._record_loss(worker, event)
        self._lost_in_a_row = 0
        held = self._workers.get(worker, {})
        row = held.get((event["id"], event["lease"]))
        if row is None:
            if kind == "epoch":  # late or repeated: the ledger compares it
                self.ledger.record_epoch(
                    event["id"], event["lease"], event["metrics"], wall=event["wall"]
                )
            return []
        recorded = self.recorder.record(row, event, stopping=self._interrupts.asked)
        if kind == "storage":
            self._storage = event["reason"]
        if kind in LAST:
            del held[event["id"], event["lease"]]
        return recorded

    def _record_loss(self, worker: str, event: dict[str, Any]) -> list[dict[str, Any]]:
        """It ended: the trials it had, if any, are queued again or given up.

        While the study is being stopped that is no failure: a batch system that ends a job kills
        workers, and the processes that load their data, along with the driver.
        """
        rows = self._workers.pop(worker, {}).values()
        stopping = self._interrupts.asked
        if stopping or not event["began"]:
            self._lost_in_a_row += not stopping
            self._why_lost = event["reason"]
            for row in rows:
                self.ledger.release(row["id"], row["lease"], event["reason"])
            return []
        self._lost_in_a_row = 0
        recorded = []
        for row in rows:
            reason = event["reason"]
            gone = self.ledger.fail(row["id"], row["lease"], reason, outcome="killed")
            recorded.append(
                {**about_trial(row), "is": "failed", "reason": reason, "given_up": gone}
            )
        return recorded

    # -- the end --------------------------------------------------------------------------------

    def _end(self) -> None:
        """Stop all workers, record what they still gave, and queue what they had."""
        try:
            self._pool.stop()
            until = time.monotonic() + GRACE
            while any(self._workers.values()) and time.monotonic() < until:
                self._take_in(0.1)
            busy = [name for name, held in self._workers.items() if held]
            events = self._pool.kill(busy)
            with self.ledger.transaction():
                for worker, event in events:
                    self._record(worker, event)
                for name in busy:
                    for row in self._workers.get(name, {}).values():
                        self.ledger.release(row["id"], row["lease"], "stopped")
        finally:
            self._pool.close()
            self._workers = {}
