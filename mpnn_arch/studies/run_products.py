"""The files that ``mpnn-arch train`` writes beside the ledger when a study is done."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpnn_arch.io.files import write_text
from mpnn_arch.io.json_text import format_json
from mpnn_arch.studies.curves import plot_curves
from mpnn_arch.studies.graph_names import graph_of
from mpnn_arch.studies.metrics import read_metrics, write_metrics
from mpnn_arch.studies.results import Result, read_results
from mpnn_arch.studies.study import Study


def write_products(study: Study) -> list[Result]:
    """Write ``results.csv``, ``results.json``, ``metrics.csv`` and ``curves.png``; all are exports.

    Returns:
        The results, in the order of the study; without any only ``metrics.csv`` is written.

    Raises:
        InputError: a file cannot be written, or matplotlib is not installed.
    """
    with study.ledger() as ledger:
        write_metrics(ledger, study.path / "metrics.csv")
        results = read_results(ledger)
        if not results:
            return []
        rows = [result_row(result) for result in results]
        write_text(study.path / "results.json", format_json(rows, indent=2) + "\n")
        write_text(study.path / "results.csv", csv_text(rows))
        drawn = {}
        for result in results:
            (row,) = ledger.query(
                "SELECT graph.* FROM trial JOIN graph ON graph.hash = graph_hash"
                " WHERE trial.graph = ? LIMIT 1",
                result.graph,
            )
            length = result.average_path_length
            caption = f"C = {result.clustering_coefficient:.3f}"
            caption += "" if length is None else f", L = {length:.3f}"
            drawn[result.graph] = graph_of(row["num_nodes"], row["adjacency"]), caption
        plot_curves(
            study.path / "curves.png",
            f"{study.config.model} on {dataset_title(study.config.dataset)}, equal multiply-adds",
            [(name, graph, caption) for name, (graph, caption) in drawn.items()],
            list(read_metrics(ledger)),
        )
    return results


def dataset_title(name: str) -> str:
    """The name of a data set for a title; of a folder its last part."""
    return Path(name).name if Path(name).is_absolute() else name


def result_row(result: Result) -> dict[str, Any]:
    """A line of ``results.csv``."""
    return {
        "graph": result.graph,
        "clustering_coefficient": result.clustering_coefficient,
        "average_path_length": result.average_path_length,
        "widths": "-".join(map(str, result.widths)),
        "parameters": result.parameters,
        "multiply_adds": result.multiply_adds,
        "test_error_mean": result.mean,
        "test_error_deviation": result.deviation,
        "seconds_per_epoch": result.seconds_per_epoch,
        "published_test_error": result.published_test_error,
        "message": result.message,
        "aggr": result.aggr,
        "seeds": len(result.test_errors),
    }


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
