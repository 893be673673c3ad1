"""The ledger of a study, read: a row per trial and a row per epoch in one SQLite file.

Reading goes on while a study runs (write-ahead log) and imports neither torch nor anything that
the study names. Only the driver of a study writes, see :mod:`mpnn_arch.studies.writer`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mpnn_arch.checks import check_path, counted
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import read_error
from mpnn_arch.studies.schema import APPLICATION, VERSION

if TYPE_CHECKING:
    from typing_extensions import Self

METRICS = ("learning_rate", "train_loss", "train_error", "test_loss", "test_error")
"""Columns of an epoch that the same trial gives again to the bit; seconds are not among them."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How far a study is.

    Attributes:
        queued, running, done, failed: trials in each state.
        waiting: trained to a rung of the race, until all others are there.
        stopped: left out by the race.
        epochs_done, epochs_asked: of all trials that did not fail; those that a race stopped count
            with what they did.
        seconds: of all epochs done, with evaluation, added up over workers.
        epochs_timed: the epochs that took these seconds, those of failed trials among them.
    """

    queued: int
    running: int
    done: int
    failed: int
    waiting: int
    stopped: int
    epochs_done: int
    epochs_asked: int
    seconds: float
    epochs_timed: int

    @property
    def left_out(self) -> str:
        """Trials without a result, and why, as ``"3 trials (2 failed, 1 not done yet)"``; or empty.

        Means over the rest are of those that did well: what diverges is among the failed.
        """
        reasons = {
            "failed": self.failed,
            "not done yet": self.queued + self.running + self.waiting,
            "stopped by the race": self.stopped,
        }
        why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)
        return f"{counted(sum(reasons.values()), 'trial')} ({why})" if why else ""

    @property
    def trials(self) -> int:
        """All trials."""
        unfinished = self.queued + self.running + self.waiting
        return unfinished + self.done + self.stopped + self.failed

    @property
    def seconds_per_epoch(self) -> float | None:
        """Mean over all epochs done; None before the first."""
        return self.seconds / self.epochs_timed if self.epochs_timed else None


class Ledger:
    """A ledger opened for reading; a context manager.

    Args:
        path: ``ledger.sqlite`` of a study.

    Raises:
        InputError: no such file, one that is cut short or damaged, or one of another version.

    Example:
        >>> from mpnn_arch.studies import Ledger, Study, StudyConfig
        >>> config = StudyConfig(model="mlp", dataset="digits", graphs=("ring:16,4",), seeds=(0, 1))
        >>> study = Study.create("study", config)
        >>> with Ledger("study/ledger.sqlite") as ledger:
        ...     ledger.counts().trials
        ...
        2
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_path(path)
        check_file(self.path)
        # Nothing is written along with a ledger in a read-only folder.
        fixed = not os.access(self.path.parent, os.W_OK) and not self._log().exists()
        with translated(self.path):
            try:
                self.connection = self._connect("immutable=1" if fixed else "mode=ro")
            except sqlite3.OperationalError as error:
                # SQLite makes an index of its log even to read, for which a full disk has no room.
                # Where it cannot, nobody writes either, and an empty log has nothing to add.
                if self._has_changes() or "locked" in str(error):
                    raise
                self.connection = self._connect("immutable=1")

    def _log(self) -> Path:
        """SQLite's write-ahead log: changes that are not in the ledger's own file yet."""
        return self.path.with_name(self.path.name + "-wal")

    def _has_changes(self) -> bool:
        try:
            return self._log().stat().st_size > 0
        except FileNotFoundError:
            return False

    def _connect(self, how: str) -> sqlite3.Connection:
        """A connection of which the first pages are read and checked."""
        name = quote(os.fsencode(self.path.absolute()))
        connection = sqlite3.connect(f"file:{name}?{how}", uri=True, timeout=30)
        with closed_on_error(connection):
            connection.row_factory = sqlite3.Row
            check_version(connection, self.path)
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, InputError | OSError):
                self._blame_damage(error)
        finally:
            self.connection.close()

    def _blame_damage(self, error: Exception) -> None:
        """Raise one sentence if what failed may have failed by a value that is damaged."""
        from mpnn_arch.studies.damage import find_damage

        found = find_damage(self.connection)
        if found is not None:
            raise damaged(self.path, found) from error

    def query(self, sql: str, *values: Any) -> Iterator[sqlite3.Row]:
        """Rows of a query, one at a time.

        Raises:
            InputError: the file is damaged.
        """
        with translated(self.path):
            # Not `yield from`: it would close the cursor of a generator that is dropped later than
            # the connection, which raises.
            for row in self.connection.execute(sql, values):  # noqa: UP028
                yield row

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads within see one state of a study that goes on."""
        with translated(self.path):
            self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.rollback()

    def counts(self) -> Counts:
        """How far the study is; the time it takes does not depend on the number of epochs."""
        of_state = {
            row["state"]: row
            for row in self.query(
                "SELECT state, count(*) AS trials, sum(epochs_done) AS done, sum(epochs) AS asked,"
                " sum(seconds) AS seconds FROM trial GROUP BY state"
            )
        }

        def total(column: str, *states: str) -> Any:
            return sum(of_state[state][column] for state in states if state in of_state)

        alive = ("queued", "running", "waiting", "done")
        return Counts(
            **{state: total("trials", state) for state in (*alive, "stopped", "failed")},
            epochs_done=total("done", *alive, "stopped"),
            epochs_asked=total("asked", *alive) + total("done", "stopped"),
            seconds=float(total("seconds", *alive, "stopped", "failed")),
            epochs_timed=total("done", *alive, "stopped", "failed"),
        )

    def trials(self, state: str | None = None) -> Iterator[sqlite3.Row]:
        """Rows of trials in the order of the study, all or those in one state."""
        if state is None:
            return self.query("SELECT * FROM trial ORDER BY id")
        return self.query("SELECT * FROM trial WHERE state = ? ORDER BY id", state)

    def find_trial(self, which: str) -> sqlite3.Row:
        """The trial with this number or with a hash that begins so.

        Raises:
            InputError: there is none, or there are several.
        """
        found = []
        if which.isdecimal() and len(which) < 10:
            found = list(self.query("SELECT * FROM trial WHERE id = ?", int(which)))
        if not found and len(which) >= 4 and set(which) <= set("0123456789abcdef"):
            found = list(
                self.query("SELECT * FROM trial WHERE substr(hash, 1, ?) = ?", len(which), which)
            )
        if len(found) != 1:
            count = "several trials" if found else "no trial"
            raise InputError(
                f"{which!r} names {count} of {self.path.parent}; give the trial_number or the "
                "first digits of the trial in the table of `mpnn-arch export`"
            )
        return found[0]

    def setting(self, name: str) -> Any:
        """What a driver stored under ``name``; None if nothing."""
        for row in self.query("SELECT value FROM setting WHERE name = ?", name):
            return json.loads(row["value"])
        return None

    def members(self, population: int) -> list[sqlite3.Row]:
        """The trials of a population in order, those that failed meanwhile among them."""
        return list(
            self.query(
                "SELECT trial.* FROM member JOIN trial ON trial.id = member.trial"
                " WHERE member.population = ? ORDER BY member.place",
                population,
            )
        )

    def epochs(self, trial: int) -> list[sqlite3.Row]:
        """The epochs of one trial, in order."""
        return list(self.query("SELECT * FROM epoch WHERE trial = ? ORDER BY epoch", trial))

    def begun(self) -> dict[int, str]:
        """Queued trials that have epochs, and how many processes trained them, in words."""
        found = {}
        for row in self.query(
            "SELECT id, machine FROM trial WHERE state = 'queued' AND epochs_done > 0"
        ):
            about = json.loads(row["machine"] or "{}")
            found[row["id"]] = str(about.get("processes", "1 process"))[:40]
        return found

    def late_epochs(self) -> list[dict[str, Any]]:
        """Results that were not accepted, each with ``agrees``: whether the accepted one is equal.

        ``agrees`` is None where no accepted one is there yet.
        """
        same = " AND ".join(f"late.{name} IS epoch.{name}" for name in METRICS)
        rows = self.query(
            f"SELECT late.*, CASE WHEN epoch.trial IS NULL THEN NULL ELSE {same} END AS agrees"
            " FROM late_epoch AS late LEFT JOIN epoch USING (trial, epoch)"
            " ORDER BY late.trial, late.lease, late.epoch"
        )
        return [
            {**dict(row), "agrees": None if row["agrees"] is None else bool(row["agrees"])}
            for row in rows
        ]


def about_trial(row: sqlite3.Row) -> dict[str, Any]:
    """What an event says of its trial."""
    names = ("id", "hash", "graph", "seed", "message", "aggr", "epochs")
    return {name: row[name] for name in names}


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close ``connection`` if it turns out to be of no use: Python 3.13 warns of one left open."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one sentence that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        reason = str(error)
        if "full" in reason or "disk I/O" in reason:
            do = (
                "free some space, or raise the limit of a file's size (ulimit -f), and give the "
                "same command again; what is recorded stays"
            )
        elif "readonly" in reason or "unable to open" in reason:
            do = "make the folder writable, or copy the study and go on with the copy"
        elif "locked" in reason:
            do = "close the other program that writes into it"
        else:
            raise damaged(path, reason) from None
        raise InputError(f"the ledger {path} cannot be used ({reason}); {do}") from None
    except UnicodeDecodeError as error:  # a name or a message of SQLite's, from a damaged file
        raise damaged(path, str(error)) from None


def damaged(path: Path, reason: str) -> InputError:
    """The error of a ledger that holds what no driver wrote."""
    return InputError(
        f"the ledger {path} cannot be used ({reason}); restore it from a copy, or start a new "
        "study in another folder"
    )


def check_file(path: Path) -> None:
    """Whether the file is there and has the length that its header gives.

    Raises:
        InputError: it is not a whole SQLite file.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise InputError(
            f"the ledger {path} cannot be read ({error.strerror}); give the folder of a study"
        ) from None
    except OSError as error:
        raise read_error(path, error) from None
    page = int.from_bytes(header[16:18], "big")
    needed = int.from_bytes(header[28:32], "big") * (65536 if page == 1 else page)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0") or size < needed:
        raise InputError(
            f"the ledger {path} is cut short or damaged ({size:,} of {needed:,} bytes); restore "
            "it from a copy, or start a new study in another folder"
        )


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Whether the tables are those that this library reads.

    Raises:
        InputError: they are of another version, or of another program.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise InputError(f"{path} is a database of something else; give the folder of a study")
    if version != VERSION:
        raise InputError(
            f"the ledger {path} has the tables of version {version}, this library reads version "
            f"{VERSION}; use the mpnn-arch that it was made with"
        )
