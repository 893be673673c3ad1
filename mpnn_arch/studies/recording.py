"""What every runner does with a study: make tasks, write down what comes back, clean up."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import remove
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.jobs import Job
from mpnn_arch.studies.ledger import Ledger, about_trial
from mpnn_arch.studies.racing import advance
from mpnn_arch.studies.tasks import Task
from mpnn_arch.studies.writer import LedgerWriter, moved_error


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a study is run; none of it changes what a trial is.

    Attributes:
        workers: processes.
        threads: of torch in each; a trial that was begun keeps the number it was begun with.
        device: where to train.
        data_root: folder of downloaded data, or None.
        weights: ``"all"``, ``"best"`` or ``"none"``.
        race, keep: of the configuration.
        cuda_graphs: whether a step is one CUDA graph.
        timeout: seconds without an epoch after which a worker is ended; None: never.
    """

    workers: int
    threads: int
    device: str = "cpu"
    data_root: str | None = None
    weights: str = "none"
    race: tuple[int, ...] = ()
    keep: float = 0.5
    cuda_graphs: bool = False
    timeout: float | None = None


class Recorder:
    """Makes the tasks of a study, and writes their events into the ledger.

    Args:
        folder: of the study.
        ledger: open for writing.
        settings: how the study is run.
    """

    def __init__(self, folder: Path, ledger: LedgerWriter, settings: RunSettings) -> None:
        self.folder = folder
        self.ledger = ledger
        self.settings = settings
        self._since: float | None = None  # when the first training of this run began
        self._epochs = 0  # recorded in this run

    def queued_jobs(self, most: int) -> int:
        """How many jobs are queued, counted up to ``most``."""
        rows = self.ledger.query(
            "SELECT id, population FROM trial WHERE state = 'queued' ORDER BY id LIMIT ?",
            most * self._largest_population,
        )
        return min(most, len({(row["population"], row["population"] or row["id"]) for row in rows}))

    @cached_property
    def _largest_population(self) -> int:
        (row,) = self.ledger.query("SELECT max(place) AS last FROM member")
        return 1 + (row["last"] or 0)

    def go_on(self, watch: Callable[[dict[str, Any]], None]) -> bool:
        """Let a race go on when no trial runs; return whether there is something to train.

        Args:
            watch: called with an event for every trial that was stopped.
        """
        if not self.settings.race:
            return False
        with self.ledger.transaction():
            stopped = advance(self.ledger, self.settings.race, self.settings.keep)
        crash_point("race.decided")
        for event in stopped:
            self.clean_up(event)
            watch(event)
        return self.queued_jobs(1) > 0

    def job(self, rows: Sequence[sqlite3.Row]) -> Job:
        """The job of trials that were leased together."""
        number = rows[0]["population"]
        if number is None:
            return Job(tasks=tuple(self.task(row) for row in rows))
        (population,) = self.ledger.query("SELECT hash FROM population WHERE id = ?", number)
        leased = {row["id"] for row in rows}
        members = self.ledger.members(number)
        begun = (m["threads"] for m in members if m["epochs_done"] and m["population"] == number)
        threads = next(begun, None)
        tasks = [self.task(row, row["id"] in leased, threads) for row in members]
        return Job(tasks=tuple(tasks), population=population["hash"])

    def task(self, row: sqlite3.Row, leased: bool = True, threads: int | None = None) -> Task:
        """The task of a trial.

        Args:
            row: of the trial.
            leased: whether its results are asked for.
            threads: of torch; None: those that it was begun with, or those of this run.
        """
        (graph,) = self.ledger.query("SELECT * FROM graph WHERE hash = ?", row["graph_hash"])
        begun = row["epochs_done"] > 0
        return Task(
            id=row["id"],
            lease=row["lease"] if leased else 0,
            trial=json.loads(row["spec"]),
            hash=row["hash"],
            num_nodes=graph["num_nodes"],
            adjacency=graph["adjacency"].hex(),
            epochs_known=row["epochs_done"],
            until=row["until"],
            choices=json.loads(row["choices"]) if row["choices"] else None,
            threads=threads or (begun and row["threads"]) or self.settings.threads,
            folder=str(self.folder.absolute()),
            weights=None if self.settings.weights == "none" else weights_name(row),
            device=self.settings.device,
            data_root=self.settings.data_root,
            cuda_graphs=self.settings.cuda_graphs,
        )

    def record(
        self, row: sqlite3.Row, event: dict[str, Any], *, stopping: bool = False
    ) -> list[dict[str, Any]]:
        """Write one event into the ledger, within a transaction; return what is worth showing.

        Args:
            row: the trial that the sender has.
            event: with ``is``, ``id`` and ``lease``.
            stopping: whether the study is being stopped, by what may make a training fail too.
        """
        kind, trial, lease = event["is"], event["id"], event["lease"]
        described = {**about_trial(row), **event}
        if kind == "started":
            self.ledger.started(trial, lease, event)
            self._since = self._since or time.monotonic()
            return []
        if kind == "epoch":
            new = self.ledger.record_epoch(
                trial, lease, event["metrics"], wall=event["wall"], choices=event.get("choices")
            )
            if new:
                self._store_pace()
            return [described] if new else []
        if kind == "done":
            return [described] if self.ledger.finish(trial, lease) else []
        final = event.get("final", False)  # it diverged, and would again
        if kind == "failed" and (final or not stopping):
            gone = self.ledger.fail(
                trial, lease, event["reason"], detail=event["detail"], final=final
            )
            return [{**described, "given_up": gone}]
        if kind == "waiting":
            self.ledger.pause(trial, lease)
            return [described]
        if kind in ("storage", "stopped", "failed"):
            self.ledger.release(trial, lease, event.get("reason", "stopped"))
            return []
        return [described]  # a note

    def storage_error(self, reason: str) -> InputError:
        """The error of a run where the study's folder cannot be written."""
        if not self.folder.is_dir():
            return moved_error(self.folder)
        return InputError(f"{reason}, and give the same command again: what is recorded stays")

    def _store_pace(self) -> None:
        """Note how quick this run is, with all that lies between epochs, for ``status``."""
        self._epochs += 1
        now = time.monotonic()  # a clock that jumps does not matter
        pace = {"epochs": self._epochs, "seconds": now - (self._since or now)}
        self.ledger.store_setting("pace", pace)

    def clean_up(self, event: dict[str, Any]) -> None:
        """Remove what is not needed after ``event`` has been committed."""
        if event["is"] not in ("done", "stopped") and not event.get("final"):
            return
        crash_point("trial.accepted")
        for hash in (event["hash"], *unneeded_populations(self.ledger, event["id"])):
            for path in (self.folder / "checkpoints").glob(f"*{hash}*"):
                remove(path)
        if self.settings.weights == "best":
            keep_best_weights(self.folder, self.ledger)


def unneeded_populations(ledger: Ledger, trial: int) -> list[str]:
    """Hashes of the populations that this trial is in and that are not trained any more."""
    rows = ledger.query(
        "SELECT hash FROM member JOIN population ON population.id = member.population"
        " WHERE member.trial = ? AND NOT EXISTS (SELECT 1 FROM trial WHERE trial.population ="
        " population.id AND trial.state IN ('queued', 'running', 'waiting'))",
        trial,
    )
    return [row["hash"] for row in rows]


def weights_name(row: sqlite3.Row | Mapping[str, Any]) -> str:
    """File name for a trial, without an ending; its number makes it unique.

    Args:
        row: of the ledger, or an event of the trial.
    """
    parts = (row["graph"], row["message"] or "", row["aggr"])
    text = re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(filter(None, parts))).strip("-.")[:80]
    return f"{row['id']}-{text}-seed{row['seed']}"


def keep_best_weights(folder: Path, ledger: LedgerWriter) -> None:
    """Of the weights of trials that are done, keep those of the trial with the least test error.

    Only the trials whose weights are there are looked at: called after every trial, these are few.
    """
    ranked = []
    for path in (folder / "weights").glob("*.safetensors"):
        number = re.match(r"([0-9]{1,9})-", path.name)
        if not number:
            continue
        for row in ledger.query("SELECT * FROM trial WHERE id = ?", int(number[1])):
            if row["state"] == "done" and path.stem == weights_name(row):  # and not the user's own
                error = row["test_error"]
                ranked.append((error is None, error or 0.0, row["id"], path))
    for *_, path in sorted(ranked)[1:]:
        remove(path)
