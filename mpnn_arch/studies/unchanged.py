"""Whether what a study was made with is still the same: graph files, data, configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.studies.graph_names import expand, file_of, graph_hashes, kept_graphs
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.trial import Trial


def check_files(specs: Iterable[str], ledger: Ledger) -> None:
    """Whether graph files that still exist contain the graphs of the ledger.

    Args:
        specs: of the study's graphs.
        ledger: the study's.

    Raises:
        InputError: one contains another graph.
    """
    files = {spec: file_of(spec) for spec in specs}
    there = [spec for spec, file in files.items() if file is not None and file.exists()]
    if not there:
        return
    known = graph_hashes(ledger)
    for name, graph in expand(there).items():
        if known.get(name, graph.content_hash) != graph.content_hash:
            raise InputError(
                f"the graph {name!r} is another one than the study was made with; restore the "
                "file, or make a new study"
            )


def without_file(specs: Iterable[str], ledger: Ledger) -> dict[str, RelationalGraph]:
    """The graphs of files that are gone, as the ledger keeps them."""
    files = {spec: file_of(spec) for spec in specs}
    gone = [spec for spec, file in files.items() if file is not None and not file.exists()]
    return kept_graphs(ledger, gone)


def check_data_of(ledger: Ledger, trials: Sequence[Trial]) -> None:
    """Whether the trials of a ledger were planned with the data that ``trials`` have.

    Raises:
        InputError: they were not.
    """
    from mpnn_arch.studies.building import check_data

    for row in ledger.query("SELECT spec FROM trial LIMIT 1"):
        then = json.loads(row["spec"])["data_hash"]
        for trial in trials[:1]:  # all of one data set
            check_data(trial.dataset, trial.data_hash, then)


def check_described(ledger: Ledger, trials: Sequence[Trial]) -> None:
    """Whether ``trials``, planned from ``study.json``, contain those of the ledger.

    Raises:
        InputError: they do not.
    """
    planned = {trial.hash for trial in trials}
    for row in ledger.query("SELECT hash, graph, seed FROM trial ORDER BY id"):
        if row["hash"] not in planned:
            raise InputError(
                f"study.json no longer describes the trials of the ledger, such as "
                f"{row['graph']!r} with seed {row['seed']}: it was edited, or the graph is made "
                "otherwise now; restore it, or make a new study"
            )
