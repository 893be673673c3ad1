"""The ledger of a study, written: by one process, in transactions, each change idempotent."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.io.files import shown_path, write_error
from mpnn_arch.io.lock import FolderLock
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.ledger import (
    METRICS,
    Ledger,
    check_file,
    check_version,
    closed_on_error,
    translated,
)
from mpnn_arch.studies.schema import APPLICATION, TABLES, VERSION
from mpnn_arch.studies.trial import Trial, canonical_json

MOST_FAILURES = 3
"""So often a trial may fail before it is left alone."""

_EPOCH = ("trial", "epoch", "lease", *METRICS, "seconds", "wall", "more")


class LedgerWriter(Ledger):
    """A ledger opened for writing; the holder of the study's lock is the only one.

    Every change is made within :meth:`transaction`. A process killed at any moment leaves the
    ledger as the last committed transaction made it.

    Args:
        path: ``ledger.sqlite``.
        lock: the study's; whether it is still held is looked at after every transaction.

    Raises:
        InputError: no such file, one that is cut short or damaged, one of another version, or one
            that cannot be written.
    """

    def __init__(self, path: str | Path, lock: FolderLock | None = None) -> None:
        self.path = Path(path)
        self._lock = lock
        check_file(self.path)
        with translated(self.path):
            self.connection = _connect(self.path)
            with closed_on_error(self.connection):
                check_version(self.connection, self.path)
                self._opened = self.path.stat()

    @classmethod
    def create(cls, path: str | Path) -> LedgerWriter:
        """A new, empty ledger.

        Raises:
            InputError: it cannot be written.
        """
        path = Path(path)
        try:
            path.touch(0o666)  # less the umask, for a group that shares it; SQLite takes 0o644
        except OSError as error:
            raise write_error(path, error) from error
        with translated(path):
            connection = _connect(path)
            with closing(connection):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(
                    f"BEGIN; PRAGMA application_id = {APPLICATION};"
                    f" PRAGMA user_version = {VERSION}; {TABLES} COMMIT;"
                )
                # Everything into the file itself: its header is what a later check reads.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return cls(path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is changed inside, or nothing of it.

        Raises:
            InputError: the disk is full, the ledger cannot be written, or its file, to which the
                changes were made, is no longer at its path, or the study's lock no longer held.
        """
        with translated(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                crash_point("ledger.transaction")
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        self._check_place()
        if self._lock is not None:
            self._lock.check_held()
        crash_point("ledger.committed")

    def _check_place(self) -> None:
        """Whether the file that is open is the one that others find at its path."""
        try:
            if os.path.samestat(self.path.stat(), self._opened):
                return
        except OSError:
            pass
        raise moved_error(self.path.parent)

    # -- trials -----------------------------------------------------------------------------

    def add_trials(
        self,
        trials: Iterable[Trial],
        graphs: Mapping[str, RelationalGraph],
        until: int | None = None,
    ) -> int:
        """Queue the trials that are not there yet; return how many.

        Args:
            trials: in the order in which they are run.
            graphs: by the name that the trials have for them.
            until: epochs to train first, the lowest rung of a race; None: all.
        """
        added = 0
        for trial in trials:
            self._add_graph(graphs[trial.graph])
            row = (
                trial.hash,
                canonical_json(trial.to_dict()),
                trial.graph,
                trial.graph_hash,
                trial.message,
                trial.aggr,
                trial.seed,
                trial.recipe.epochs,
                until or trial.recipe.epochs,
            )
            added += self.connection.execute(
                "INSERT OR IGNORE INTO trial (hash, spec, graph, graph_hash, message, aggr, seed,"
                " epochs, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            ).rowcount
        return added

    def _add_graph(self, graph: RelationalGraph) -> None:
        known = self.connection.execute(
            "SELECT 1 FROM graph WHERE hash = ?", (graph.content_hash,)
        ).fetchone()
        if known:
            return
        try:
            length = graph.average_path_length
        except InputError:  # some pairs of nodes have no path between them
            length = None
        self.connection.execute(
            "INSERT INTO graph VALUES (?, ?, ?, ?, ?, ?)",
            (
                graph.content_hash,
                graph.num_nodes,
                np.packbits(graph.adjacency).tobytes(),
                graph.average_degree,
                graph.clustering_coefficient,
                length,
            ),
        )

    def requeue(self, *, failed: bool = False) -> None:
        """Queue what a driver that died left running; with ``failed`` also what had failed.

        A trial that had failed is trained alone.
        """
        self.connection.execute(
            "UPDATE attempt SET outcome = 'lost', reason = 'the driver ended' WHERE outcome IS NULL"
        )
        self.connection.execute("UPDATE trial SET state = 'queued' WHERE state = 'running'")
        if failed:
            self.connection.execute(
                "UPDATE trial SET state = 'queued', failures = 0, reason = NULL, population = NULL,"
                " choices = iif(population IS NULL, choices, NULL) WHERE state = 'failed'"
            )

    def lease(self, worker: str) -> list[sqlite3.Row]:
        """Give the first queued trial to ``worker``, with all queued ones of its population.

        Each row's ``lease`` is the number under which results are accepted from now on. No row if
        nothing is queued.
        """
        first = self.connection.execute(
            "SELECT id, population FROM trial WHERE state = 'queued' ORDER BY id LIMIT 1"
        ).fetchone()
        if first is None:
            return []
        together = self.connection.execute(
            "SELECT id FROM trial WHERE population = ? AND state = 'queued' ORDER BY id",
            (first["population"],),
        ).fetchall()
        rows = together or [first]
        for row in rows:
            self.lease_trial(row["id"], worker)
        return [self._trial(row["id"]) for row in rows]

    def lease_trial(self, trial: int, worker: str) -> int:
        """Give this trial to ``worker``; return the number of the lease."""
        self.connection.execute(
            "UPDATE trial SET state = 'running', lease = lease + 1, attempts = attempts + 1"
            " WHERE id = ?",
            (trial,),
        )
        lease: int = self._trial(trial)["lease"]
        self.connection.execute(
            "INSERT INTO attempt (trial, lease, worker) VALUES (?, ?, ?)", (trial, lease, worker)
        )
        return lease

    def started(self, trial: int, lease: int, about: Mapping[str, Any]) -> None:
        """Note what a worker found: machine, threads, choices, widths and cost."""
        if self._is_current(self._trial(trial), lease):
            self.connection.execute(
                "UPDATE trial SET machine = ?, threads = ?, choices = ?, widths = ?,"
                " parameters = ?, multiply_adds = ? WHERE id = ?",
                (
                    canonical_json(about["machine"]),
                    about["threads"],
                    canonical_json(about["choices"]),
                    canonical_json(about["widths"]),
                    about["parameters"],
                    about["multiply_adds"],
                    trial,
                ),
            )

    def record_epoch(
        self,
        trial: int,
        lease: int,
        metrics: Mapping[str, Any],
        *,
        wall: float,
        choices: Mapping[str, Any] | None = None,
    ) -> bool:
        """Accept one epoch; return whether it is new.

        The same epoch again changes nothing. An epoch of a lease that was given to another worker
        meanwhile is kept aside (``late_epoch``). If a continuation gives other numbers than were
        accepted, as on another machine, its numbers hold from there on and the others are kept
        aside, so that a trial's epochs are always those of one training.

        Args:
            trial: its number.
            lease: under which it was trained.
            metrics: the fields of ``EpochMetrics``; those without a column are kept as JSON.
            wall: seconds with evaluation.
            choices: backends, if they changed.
        """
        epoch = metrics["epoch"]
        known = {"epoch", "seconds", *METRICS}
        more = {name: value for name, value in metrics.items() if name not in known}
        values = (
            trial,
            epoch,
            lease,
            *(metrics[name] for name in METRICS),
            metrics["seconds"],
            wall,
            json.dumps(more, sort_keys=True) if more else None,
        )
        row = self._trial(trial)
        accepted = self.connection.execute(
            "SELECT * FROM epoch WHERE trial = ? AND epoch = ?", (trial, epoch)
        ).fetchone()
        if accepted is not None and all(_same(accepted[m], metrics[m]) for m in METRICS):
            return False
        if not self._is_current(row, lease) or epoch > row["epochs_done"] + 1:
            self._insert("OR IGNORE INTO late_epoch", values)
            return False
        if accepted is not None:
            self._set_aside(trial, epoch)
        self._insert("INTO epoch", values)
        self.connection.execute(
            "UPDATE trial SET epochs_done = ?, seconds = seconds + ?,"
            " test_error = coalesce(?, test_error), choices = coalesce(?, choices) WHERE id = ?",
            (
                epoch,
                wall,
                metrics["test_error"],
                None if choices is None else canonical_json(choices),
                trial,
            ),
        )
        return True

    def finish(self, trial: int, lease: int) -> bool:
        """A worker is through; return whether the trial is done by this very message."""
        row = self._trial(trial)
        if not self._is_current(row, lease):
            return False
        if row["epochs_done"] != row["epochs"]:
            reason = f"the worker ended after {row['epochs_done']} of {row['epochs']} epochs"
            self.fail(trial, lease, reason)
            return False
        self.connection.execute("UPDATE trial SET state = 'done' WHERE id = ?", (trial,))
        self._end(trial, lease, "done")
        return True

    def fail(
        self,
        trial: int,
        lease: int,
        reason: str,
        *,
        detail: str = "",
        outcome: str = "failed",
        final: bool = False,
    ) -> bool:
        """The trial raised, diverged or killed its worker; return whether it is given up.

        It is given up after three failures, or at once if ``final``. A population that fails so
        often is dissolved first: the memory may not do for all, or one may spoil it for the others.
        """
        row = self._trial(trial)
        if not self._is_current(row, lease):
            return False
        failures = row["failures"] + 1
        gone = final or failures >= MOST_FAILURES
        if gone and not final and row["population"] is not None:
            self._dissolve(row["population"])
            gone, failures = False, 0
        self.connection.execute(
            "UPDATE trial SET state = ?, failures = ?, reason = ? WHERE id = ?",
            ("failed" if gone else "queued", failures, reason, trial),
        )
        self._end(trial, lease, outcome, reason, detail)
        return gone

    def _dissolve(self, population: int) -> None:
        self.connection.execute(
            "UPDATE trial SET population = NULL, choices = NULL, failures = 0"
            " WHERE population = ? AND state IN ('queued', 'running')",
            (population,),
        )

    def release(self, trial: int, lease: int, reason: str) -> None:
        """Queue a trial again that was stopped from outside; that is no failure of its own."""
        if self._is_current(self._trial(trial), lease):
            self.connection.execute("UPDATE trial SET state = 'queued' WHERE id = ?", (trial,))
            self._end(trial, lease, "interrupted", reason)

    # -- populations, races, settings ---------------------------------------------------------

    def put_together(self, trials: Sequence[int], hash: str) -> None:
        """Train these trials side by side from now on; none has begun."""
        population = self.connection.execute(
            "INSERT INTO population (hash) VALUES (?)", (hash,)
        ).lastrowid
        for place, trial in enumerate(trials):
            self.connection.execute(
                "INSERT INTO member VALUES (?, ?, ?)", (population, place, trial)
            )
            self.connection.execute(
                "UPDATE trial SET population = ? WHERE id = ?", (population, trial)
            )

    def take_apart(self) -> None:
        """Forget the populations of which no member was ever given to a worker."""
        unbegun = (
            "(SELECT population FROM trial WHERE population IS NOT NULL"
            " GROUP BY population HAVING max(attempts) = 0)"
        )
        self.connection.execute(f"DELETE FROM member WHERE population IN {unbegun}")
        self.connection.execute(f"UPDATE trial SET population = NULL WHERE population IN {unbegun}")
        self.connection.execute(
            "DELETE FROM population WHERE id NOT IN (SELECT population FROM member)"
        )

    def pause(self, trial: int, lease: int) -> None:
        """A trial has come to its rung, and waits for the others."""
        row = self._trial(trial)
        if not self._is_current(row, lease):
            return
        if row["epochs_done"] < row["until"]:
            reason = f"the worker ended after {row['epochs_done']} of {row['until']} epochs"
            self.fail(trial, lease, reason)
            return
        self.connection.execute("UPDATE trial SET state = 'waiting' WHERE id = ?", (trial,))
        self._end(trial, lease, "waiting")

    def go_on(self, trial: int, until: int) -> None:
        """Queue a trial that waits, or that was stopped, to be trained up to this epoch."""
        self.connection.execute(
            "UPDATE trial SET state = 'queued', until = ?, rung = NULL, reason = NULL"
            " WHERE id = ? AND state IN ('waiting', 'stopped')",
            (until, trial),
        )

    def stop(self, trial: int, rung: int, reason: str) -> None:
        """Leave a trial that waits as it is."""
        self.connection.execute(
            "UPDATE trial SET state = 'stopped', rung = ?, reason = ?"
            " WHERE id = ? AND state = 'waiting'",
            (rung, reason, trial),
        )

    def store_setting(self, name: str, value: Any) -> None:
        """Keep something for the next driver."""
        self.connection.execute(
            "INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, canonical_json(value))
        )

    # -- within -----------------------------------------------------------------------------

    def _trial(self, trial: int) -> sqlite3.Row:
        row: sqlite3.Row | None = self.connection.execute(
            "SELECT * FROM trial WHERE id = ?", (trial,)
        ).fetchone()
        if row is None:
            raise InputError(f"{self.path} has no trial {trial}; restore the ledger")
        return row

    @staticmethod
    def _is_current(row: sqlite3.Row, lease: int) -> bool:
        return bool(row["state"] == "running" and row["lease"] == lease)

    def _insert(self, into: str, values: tuple[Any, ...]) -> None:
        places = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT {into} ({', '.join(_EPOCH)}) VALUES ({places})", values)

    def _set_aside(self, trial: int, epoch: int) -> None:
        columns = ", ".join(_EPOCH)
        self.connection.execute(
            f"INSERT OR IGNORE INTO late_epoch ({columns})"
            f" SELECT {columns} FROM epoch WHERE trial = ? AND epoch >= ?",
            (trial, epoch),
        )
        self.connection.execute("DELETE FROM epoch WHERE trial = ? AND epoch >= ?", (trial, epoch))
        (seconds,) = self.connection.execute(
            "SELECT coalesce(sum(wall), 0) FROM epoch WHERE trial = ?", (trial,)
        ).fetchone()
        self.connection.execute("UPDATE trial SET seconds = ? WHERE id = ?", (seconds, trial))

    def _end(
        self, trial: int, lease: int, outcome: str, reason: str | None = None, detail: str = ""
    ) -> None:
        self.connection.execute(
            "UPDATE attempt SET outcome = ?, reason = ?, detail = ? WHERE trial = ? AND lease = ?",
            (outcome, reason, detail or None, trial, lease),
        )


def moved_error(folder: Path) -> InputError:
    """The error of a study whose files are no longer where its driver found them."""
    return InputError(
        f"the study's folder {shown_path(folder)}, or the ledger in it, was moved, deleted or "
        "replaced while it was trained; move it back, or give its new path as --out, to go on"
    )


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand; each is on the disk when its COMMIT returns.
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    with closed_on_error(connection):
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def _same(stored: float | None, given: float | None) -> bool:
    """Equal to the bit; SQLite keeps NaN as NULL."""
    if given is not None and given != given:
        given = None
    return stored == given
