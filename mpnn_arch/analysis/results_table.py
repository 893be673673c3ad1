"""The tidy table of results: its columns, and what an analysis asks of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from mpnn_arch.analysis.graph_rows import PARAMETERS
from mpnn_arch.checks import check_columns
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

COLUMNS = ("results", "graph", *PARAMETERS, *C_AND_L, "train_seed", "epoch", "error")
# Those that name a row.
RUN = ["graph", "train_seed", "epoch"]

# What a results file may call its columns; the first name that is there is taken.
ERROR_NAMES = ("top1_error", "test_error", "error")
SEED_NAMES = ("train_seed", "seed")
EPOCH_NAMES = ("epoch", "epochs")
# What a study may vary besides the graph.
KIND = ("model", "dataset", "message", "aggr")
# A column for each epoch.
WIDE = re.compile(r"epoch(\d+)")


def check_table(table: pd.DataFrame, columns: Iterable[str] = COLUMNS[1:]) -> None:
    """Refuse what is no table of results, or lacks one of ``columns``.

    Where they are those of a run, every run is there once: of several networks a graph's errors
    would be averaged as if they were one's.

    Raises:
        InputError: it is not, or does, or holds several results.
    """
    columns = list(columns)
    check_columns(table, columns, "load one with mpnn_arch.analysis.load_results")
    if not {*RUN, "error"} <= set(columns):
        return
    names = table["results"].unique() if "results" in table.columns else []
    if len(names) > 1:
        listed = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"the table holds {len(names)} results ({listed}), of several networks or files; "
            f"analyse them one by one, as table[table['results'] == {str(names[0])!r}]"
        )
    again = table[table.duplicated(RUN)]
    if len(again):
        graph, seed, epoch = again[RUN].iloc[0]
        raise InputError(
            f"the table has several errors for {graph}, training seed {seed}, epoch {epoch}; keep "
            "one, or analyse each network by itself"
        )


def final(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch, by graph and training seed.

    Raises:
        InputError: no table of results.
    """
    check_table(table)
    last: pd.DataFrame = table[table["epoch"] == table["epoch"].max()]
    # Trials of a study end in any order, which sums, ties and the folds of graphs must not show.
    return last.sort_values(["graph", "train_seed"])


def is_baseline(table: pd.DataFrame) -> pd.Series:
    """Which rows are the complete graph's.

    Raises:
        InputError: no table with a column ``graph``.
    """
    check_table(table, ["graph"])
    answer: pd.Series = table["graph"].str.startswith("complete:")
    return answer


def has_epochs(table: pd.DataFrame) -> bool:
    """Whether the table knows more than one epoch.

    Raises:
        InputError: no table with a column ``epoch``.
    """
    check_table(table, ["epoch"])
    return table["epoch"].nunique() > 1
