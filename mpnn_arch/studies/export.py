"""The results of a study as one tidy table, in the columns of the paper's published results."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sqlite3
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_whole
from mpnn_arch.studies.graph_names import family_and_parameters
from mpnn_arch.studies.ledger import Ledger, translated
from mpnn_arch.studies.published import published_errors

# What a row has of its trial's graph and cost, of its epoch, and of its trial.
_HEAD = (
    "graph",
    "num_nodes",
    "density",
    "rewiring_probability",
    "graph_seed",
    "train_seed",
    "first_stage_width",
    "params_million",
    "gflops",
)
_EPOCH = (
    "top1_error",
    "top5_error",
    "epoch",
    "learning_rate",
    "train_loss",
    "train_error",
    "test_loss",
    "seconds",
)
_TAIL = (
    "clustering_coefficient",
    "average_path_length",
    "average_degree",
    "model",
    "dataset",
    "message",
    "aggr",
    "graph_spec",
    "graph_hash",
    "trial",
    "trial_number",
    "state",
    "stopped_after",
    "published_top1_error",
)
COLUMNS = (*_HEAD, *_EPOCH, *_TAIL)
"""The published columns first, in their order; then those that a study knows besides."""

# Columns of the ledger's epochs, in the order in which a row is put together.
_READ = (
    "trial",
    "more",
    "test_error",
    "epoch",
    "learning_rate",
    "train_loss",
    "train_error",
    "test_loss",
    "seconds",
)

_WHOLE = {
    "num_nodes",
    "graph_seed",
    "train_seed",
    "first_stage_width",
    "epoch",
    "trial_number",
    "stopped_after",
}
_TEXT = {"graph", *_TAIL[3:-1]} - _WHOLE

_PARQUET_ROWS = 100_000
PYARROW_IS_MISSING = (
    'Parquet needs pyarrow, which is not installed: pip install "mpnn-arch[graphs]"'
)


def export(ledger: Ledger, path: Path, *, all_epochs: bool = False) -> int:
    """Write the table to ``path``, whole or not at all; return the number of rows.

    Args:
        ledger: of the study.
        path: ``.csv`` or ``.parquet``.
        all_epochs: a row per epoch, also of trials under way; else the last of those that are done.

    Raises:
        InputError: another ending, pyarrow missing, or a path that cannot be written.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise InputError(
            f"the table is written as CSV or as Parquet, by the ending of its name, and {path} has "
            "neither; give a name such as results.csv or results.parquet"
        )
    written = [0]

    def fill(temporary: Path) -> None:
        written[0] = write(temporary, ledger, all_epochs)

    write_whole(path, fill)
    return written[0]


def read_rows(
    ledger: Ledger, *, all_epochs: bool = False
) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """The columns and the rows, one at a time, in the order of the study.

    ``density`` is the average degree that a WS-flex graph was asked for over the number of nodes,
    rounded to 6 digits as ``rewiring_probability`` is, and 1 for the complete graph with the graph
    seed 1, so that tables join with the published ones on these and ``graph_seed``. ``gflops`` are
    10^9 multiply-adds, ``top1_error`` is in percent, ``trial`` is its hash and ``trial_number`` its
    place in the study, counted from 1, either of which ``mpnn-arch replay`` takes.
    ``stopped_after`` are the epochs of a trial that a race stopped (only with all epochs).
    """
    return COLUMNS, _rows(ledger, all_epochs)


def _rows(ledger: Ledger, all_epochs: bool) -> Iterator[tuple[Any, ...]]:
    ends = _ends(ledger, all_epochs)
    for trial, epoch in _epochs(ledger, ends, all_epochs):
        head, tail = ends[trial]
        yield (*head, *epoch, *tail)


def _ends(ledger: Ledger, all_epochs: bool) -> dict[int, tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Of every trial, what stands before and after the columns of an epoch."""
    graphs = {row["hash"]: row for row in ledger.query("SELECT * FROM graph")}
    return {
        row["id"]: (_head(row, graphs), _tail(row, graphs))
        for row in ledger.trials(None if all_epochs else "done")
    }


def _epochs(
    ledger: Ledger, trials: Container[int], all_epochs: bool
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The number of a trial and the columns of one of its epochs."""
    columns = ", ".join(f"epoch.{name}" for name in _READ)
    # Without all epochs a trial looks up its last one, as CROSS JOIN has it; the table of epochs is
    # not gone through.
    last = (
        "trial CROSS JOIN epoch ON epoch.trial = trial.id AND epoch.epoch = trial.epochs"
        " WHERE trial.state = 'done' ORDER BY trial.id"
    )
    cursor = ledger.connection.cursor()
    cursor.row_factory = None  # plain tuples: a study has millions of them
    with translated(ledger.path):
        cursor.execute(
            f"SELECT {columns} FROM "
            + ("epoch ORDER BY epoch.trial, epoch.epoch" if all_epochs else last)
        )
        for trial, more, error, *rest in cursor:
            if trial in trials:
                top5 = None if more is None else json.loads(more).get("test_top5_error")
                yield trial, (error, top5, *rest)


def _head(row: sqlite3.Row, graphs: dict[str, sqlite3.Row]) -> tuple[Any, ...]:
    widths = json.loads(row["widths"] or "[]")
    return (
        *graph_key(row["graph"], graphs[row["graph_hash"]]),
        row["seed"],
        widths[0] if widths else None,
        None if row["parameters"] is None else row["parameters"] / 1e6,
        None if row["multiply_adds"] is None else row["multiply_adds"] / 1e9,
    )


def _tail(row: sqlite3.Row, graphs: dict[str, sqlite3.Row]) -> tuple[Any, ...]:
    graph = graphs[row["graph_hash"]]
    spec = json.loads(row["spec"])
    key = graph_key(row["graph"], graph)
    return (
        graph["clustering_coefficient"],
        graph["average_path_length"],
        graph["average_degree"],
        spec["model"],
        spec["dataset"],
        row["message"],
        row["aggr"],
        row["graph"],
        row["graph_hash"],
        row["hash"],
        row["id"],
        row["state"],
        row["rung"],
        published_errors(spec["model"]).get(key),  # type: ignore[call-overload]
    )


def graph_key(name: str, graph: sqlite3.Row) -> tuple[Any, ...]:
    """Family, nodes, density, rewiring probability and seed, as the published files have them.

    Args:
        name: the graph's specification.
        graph: its row of the ledger.
    """
    family, parameters = family_and_parameters(name)
    nodes = graph["num_nodes"]
    if family == "complete":
        return family, nodes, 1.0, 0.0, 1
    asked = parameters.get("average_degree") if family == "ws_flex" else None
    degree = graph["average_degree"] if asked is None else asked
    probability = parameters.get("rewiring_probability")
    return (
        family,
        nodes,
        round(degree / nodes, 6),
        None if probability is None else round(float(probability), 6),
        parameters.get("seed"),
    )


def _write_csv(path: Path, ledger: Ledger, all_epochs: bool) -> int:
    """Write line by line, a trial's part of the line made once; return the number of rows."""
    ends = {
        trial: (_line(head), _line(tail))
        for trial, (head, tail) in _ends(ledger, all_epochs).items()
    }
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(_line(COLUMNS) + "\n")
        for trial, epoch in _epochs(ledger, ends, all_epochs):
            head, tail = ends[trial]
            numbers = ",".join(["" if value is None else repr(value) for value in epoch])
            file.write(f"{head},{numbers},{tail}\n")
            count += 1
    return count


def _line(values: tuple[Any, ...]) -> str:
    made = io.StringIO()
    csv.writer(made, lineterminator="").writerow(values)
    return made.getvalue()


def _write_parquet(path: Path, ledger: Ledger, all_epochs: bool) -> int:
    """Write in batches, a trial's values made once; return the number of rows."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(PYARROW_IS_MISSING) from None

    def array(name: str, values: Iterable[Any]) -> Any:
        kind = pa.int64() if name in _WHOLE else pa.string() if name in _TEXT else pa.float64()
        return pa.array(list(values), type=kind)

    ends = _ends(ledger, all_epochs)
    place = {trial: number for number, trial in enumerate(ends)}
    heads, tails = ([end[side] for end in ends.values()] for side in (0, 1))
    of_trial = {
        name: array(name, (values[at] for values in sides))
        for names, sides in ((_HEAD, heads), (_TAIL, tails))
        for at, name in enumerate(names)
    }
    count = 0
    with pq.ParquetWriter(path, pa.schema([(n, array(n, ()).type) for n in COLUMNS])) as writer:
        rows = _epochs(ledger, ends, all_epochs)
        while batch := list(itertools.islice(rows, _PARQUET_ROWS)):
            places = pa.array([place[trial] for trial, _ in batch])
            of_epoch = zip(*(epoch for _, epoch in batch), strict=True)
            made = {
                name: array(name, values) for name, values in zip(_EPOCH, of_epoch, strict=True)
            }
            made |= {name: values.take(places) for name, values in of_trial.items()}
            writer.write_table(pa.table({name: made[name] for name in COLUMNS}))
            count += len(batch)
    return count
