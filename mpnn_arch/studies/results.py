"""Results of a study by graph, message and aggregation, over the seeds."""

from __future__ import annotations

import json
import math
import sqlite3
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpnn_arch.studies.export import graph_key
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.published import published_errors


@dataclass(frozen=True, kw_only=True)
class Result:
    """The trials of one graph, message and aggregation that are done; they differ in their seeds.

    Attributes:
        graph: its specification.
        message, aggr: their names; a message of None is the model's own.
        clustering_coefficient: C.
        average_path_length: L; None where some pair of nodes has no path.
        widths: channels of each stage, matched to the dense model's multiply-adds.
        parameters: weights, biases and norms.
        multiply_adds: of one image; None for a model that cannot be counted.
        test_errors: percent after the last epoch, one per seed; NaN where the loss was not finite.
        seconds_per_epoch: median over seeds and epochs, evaluation not counted.
        published_test_error: mean published error of the same graph, where it is at hand.
    """

    graph: str
    message: str | None
    aggr: str
    clustering_coefficient: float
    average_path_length: float | None
    widths: tuple[int, ...]
    parameters: int
    multiply_adds: int | None
    test_errors: tuple[float, ...]
    seconds_per_epoch: float
    published_test_error: float | None

    @property
    def mean(self) -> float:
        """Mean test error over the seeds, percent."""
        return statistics.fmean(self.test_errors)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single seed."""
        if len(self.test_errors) < 2 or not all(map(math.isfinite, self.test_errors)):
            return None
        return statistics.stdev(self.test_errors)

    @property
    def shown_error(self) -> str:
        """Mean and deviation, for a table."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return f"{self.mean:.2f}{spread}"


def read_results(ledger: Ledger) -> list[Result]:
    """A result for every graph, message and aggregation with a trial that is done.

    They come in the order of the study.
    """
    graphs = {row["hash"]: row for row in ledger.query("SELECT * FROM graph")}
    seconds = _seconds_per_epoch(ledger)
    groups: dict[tuple[Any, ...], list[sqlite3.Row]] = {}
    for row in ledger.trials("done"):
        groups.setdefault((row["graph"], row["message"], row["aggr"]), []).append(row)
    results = []
    for key, rows in groups.items():
        first, graph = rows[0], graphs[rows[0]["graph_hash"]]
        published = published_errors(json.loads(first["spec"])["model"])
        results.append(
            Result(
                graph=first["graph"],
                message=first["message"],
                aggr=first["aggr"],
                clustering_coefficient=graph["clustering_coefficient"],
                average_path_length=graph["average_path_length"],
                widths=tuple(json.loads(first["widths"] or "[]")),
                parameters=first["parameters"],
                multiply_adds=first["multiply_adds"],
                test_errors=tuple(
                    math.nan if row["test_error"] is None else row["test_error"] for row in rows
                ),
                seconds_per_epoch=seconds[key],
                published_test_error=published.get(graph_key(first["graph"], graph)),  # type: ignore[arg-type]
            )
        )
    return results


def failures(ledger: Ledger) -> Iterator[tuple[str, int]]:
    """Every reason for which trials failed, and how many."""
    for row in ledger.query(
        "SELECT reason, count(*) AS trials FROM trial WHERE state = 'failed'"
        " GROUP BY reason ORDER BY trials DESC"
    ):
        yield row["reason"], row["trials"]


def _seconds_per_epoch(ledger: Ledger) -> dict[tuple[Any, ...], float]:
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in ledger.query(
        "SELECT graph, message, aggr, epoch.seconds AS seconds FROM trial JOIN epoch"
        " ON epoch.trial = trial.id WHERE trial.state = 'done'"
    ):
        key = (row["graph"], row["message"], row["aggr"])
        found.setdefault(key, []).append(row["seconds"])
    return {key: statistics.median(all_) for key, all_ in found.items()}
