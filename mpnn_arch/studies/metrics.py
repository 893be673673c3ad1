"""The metrics of every epoch of a study, as rows and as ``metrics.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mpnn_arch.io.files import write_whole
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.training.loop import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class MetricsRow(EpochMetrics):
    """One line of ``metrics.csv``: an epoch of one graph with one seed."""

    graph: str
    seed: int
    message: str | None = None
    aggr: str = "sum"


_METRICS = tuple(field.name for field in fields(EpochMetrics))
COLUMNS = ("graph", "seed", *_METRICS, "message", "aggr")
"""Of ``metrics.csv``."""


def read_metrics(ledger: Ledger) -> Iterator[MetricsRow]:
    """The epochs of all trials, also of those under way, in the order of the study."""
    names = ", ".join(f"epoch.{name} AS {name}" for name in _METRICS)
    rows = ledger.query(
        f"SELECT graph, seed, message, aggr, {names} FROM epoch"
        " JOIN trial ON trial.id = epoch.trial ORDER BY trial.id, epoch.epoch"
    )
    for row in rows:
        # SQLite keeps NaN as NULL.
        values: dict[str, Any] = {
            name: math.nan if row[name] is None else row[name] for name in _METRICS
        }
        of_trial: dict[str, Any] = {
            name: row[name] for name in ("graph", "seed", "message", "aggr")
        }
        yield MetricsRow(**of_trial, **values)


def write_metrics(ledger: Ledger, path: Path) -> None:
    """Write ``metrics.csv``, whole or not at all; numbers are read back to the same bits.

    Raises:
        InputError: the path cannot be written.
    """

    def fill(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in read_metrics(ledger):
                writer.writerow([getattr(row, name) for name in COLUMNS])

    write_whole(path, fill)
