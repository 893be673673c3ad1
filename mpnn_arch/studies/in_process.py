"""Trains the trials of a study one after another in the calling process, without workers."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.studies.building import check_data, data_of
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.interrupts import Interrupts
from mpnn_arch.studies.jobs import LAST, run_job
from mpnn_arch.studies.recording import Recorder
from mpnn_arch.studies.trial import Trial


class InProcess:
    """The driver of a study that is its own only worker.

    It begins at once, since nothing is imported anew, and needs neither forks nor sockets. What a
    worker process adds is missing: a trial that kills its process ends the run, and the same call
    goes on with it.

    Args:
        recorder: of the study.
        watch: called with every event after it is recorded.
    """

    def __init__(self, recorder: Recorder, *, watch: Callable[[dict[str, Any]], None]) -> None:
        self.recorder = recorder
        self.ledger = recorder.ledger
        self._watch = watch
        # The trials that this process has, by number and lease.
        self._held: dict[tuple[int, int], sqlite3.Row] = {}
        self._storage: str | None = None

    def run(self, interrupts: Interrupts) -> None:
        """Train until nothing is queued.

        Raises:
            KeyboardInterrupt: Ctrl-C; everything but the epoch in flight is recorded.
            InputError: the folder cannot be written, or the data set is another one.
        """
        with interrupts.raised():
            self._check_data()
        threads = torch.get_num_threads()
        try:
            while not (interrupts.asked or self._storage):
                with self.ledger.transaction():
                    rows = self.ledger.lease(f"{socket.gethostname()}/{os.getpid()}")
                if rows:
                    crash_point("lease.given")
                    self._train(rows)
                elif not self.recorder.go_on(self._watch):
                    return
        finally:
            torch.set_num_threads(threads)
        if self._storage:
            raise self.recorder.storage_error(self._storage)
        raise KeyboardInterrupt

    def _check_data(self) -> None:
        """Whether what is to be trained on is what the study was made with."""
        for row in self.ledger.query("SELECT * FROM trial WHERE state = 'queued' LIMIT 1"):
            trial = Trial.from_dict(self.recorder.task(row).trial)
            _, found = data_of(trial, self.recorder.settings.data_root)
            check_data(trial.dataset, found, trial.data_hash)

    def _train(self, rows: Sequence[sqlite3.Row]) -> None:
        signals = _Immediate()

        def emit(event: dict[str, Any]) -> None:
            with signals.held(), _passing():
                self._record(event, signals.asked)

        self._held = {(row["id"], row["lease"]): row for row in rows}
        try:
            with signals:
                run_job(self.recorder.job(rows), emit)
        except _Passed as passed:
            raise passed.error from None
        finally:
            held, self._held = self._held, {}
            if held:  # stopped by Ctrl-C, by the watcher, or by a ledger that is full
                with suppress(InputError), self.ledger.transaction():
                    for trial, lease in held:
                        self.ledger.release(trial, lease, "stopped")

    def _record(self, event: dict[str, Any], stopping: bool) -> None:
        key = event["id"], event["lease"]
        with self.ledger.transaction():
            recorded = self.recorder.record(self._held[key], event, stopping=stopping)
        if event["is"] == "storage":
            self._storage = event["reason"]
        if event["is"] in LAST:
            del self._held[key]
        for one in recorded:
            self.recorder.clean_up(one)
            self._watch(one)


class _Immediate(Interrupts):
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt, but for what is held together."""

    def __init__(self) -> None:
        super().__init__()
        self._raises = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """An interrupt that comes meanwhile is raised at the end."""
        self._raises = False
        try:
            yield
        finally:
            self._raises = True
        if self.asked:
            raise KeyboardInterrupt


class _Passed(BaseException):
    """An error of the ledger or of the watcher, which is no fault of the trial's."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@contextmanager
def _passing() -> Iterator[None]:
    """Let no exception look like one of the training."""
    try:
        yield
    except Exception as error:
        raise _Passed(error) from error
