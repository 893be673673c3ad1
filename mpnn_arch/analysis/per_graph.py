"""The errors of every graph over its training seeds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mpnn_arch.analysis.graph_rows import PARAMETERS
from mpnn_arch.analysis.results_table import final, is_baseline
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def per_graph(table: pd.DataFrame) -> pd.DataFrame:
    """One row per graph, lowest mean error first; ties go to the lower deviation.

    Args:
        table: a tidy table; of several epochs the last is taken.

    Returns:
        The graph's columns, and over its training seeds ``mean``, ``std`` (with N, as the paper's),
        ``sum``, ``squares`` (sum of squares) and ``seeds`` (their number).

    Raises:
        InputError: no table of results, or an empty one.

    Example:
        >>> from mpnn_arch.analysis import load_results, per_graph
        >>> best = per_graph(load_results("results.csv")).iloc[0]
        >>> best["graph"], round(best["mean"], 2)
        ('ws_flex:64,12.273960139051601,0.2192369212872339,26', np.float64(38.55))
    """
    last = final(table)
    if last.empty:
        raise InputError("there is no result to analyse; give a table with one row or more")
    described = last.drop_duplicates("graph").set_index("graph")[[*PARAMETERS, *C_AND_L]]
    errors = last.assign(squares=last["error"] ** 2).groupby("graph", sort=False)
    graphs = described.assign(
        mean=errors["error"].mean(),
        std=errors["error"].std(ddof=0),
        sum=errors["error"].sum(),
        squares=errors["squares"].sum(),
        seeds=errors.size(),
    )
    # Rounded, so that two equal means that were added in another order stay a tie.
    order = np.lexsort((graphs["std"], graphs["mean"].round(9)))
    return graphs.iloc[order].reset_index()


def error_matrix(table: pd.DataFrame) -> tuple[pd.DataFrame, Array]:
    """The graphs and training seeds of the largest complete part, and their errors.

    Returns:
        The rows of :func:`per_graph` for those graphs in the order of the table, and their errors,
        shape (graphs, seeds), seeds ascending. See :func:`complete_part`.
    """
    last = final(table)
    wide = last.pivot(index="graph", columns="train_seed", values="error")
    graphs, seeds = complete_part(wide.notna().to_numpy())
    wide = wide.loc[graphs, seeds]
    described = per_graph(table).set_index("graph").loc[wide.index].reset_index()
    return described, wide.to_numpy(dtype=np.float64)


def complete_part(there: Flags) -> tuple[Flags, Flags]:
    """Which graphs and which training seeds to keep so that every one has every other.

    Of the seeds that most graphs have, the first 1, 2, ... are tried, two or more where some graph
    has two; most runs win, and with as many runs most seeds. A study that is under way loses its
    last seed so, and not the graphs that do not have it yet.

    Args:
        there: whether a run is there, shape (graphs, seeds).
    """
    order = np.argsort(-there.sum(axis=0), kind="stable")
    together = np.cumprod(there[:, order], axis=1).sum(axis=0)  # graphs with the first k seeds
    runs = together * np.arange(1, there.shape[1] + 1)
    if (together[1:] > 0).any():
        runs[0] = 0
    count = len(runs) - int(np.argmax(runs[::-1])) if len(runs) else 0
    seeds = np.zeros(there.shape[1], dtype=bool)
    seeds[order[:count]] = True
    graphs: Flags = np.asarray(there[:, seeds].all(axis=1), dtype=bool)
    return graphs, seeds


def run_variance(errors: Array) -> float:
    """Variance of one run that neither its graph nor its training seed explains.

    A seed that is good for all graphs shifts all their means alike, so the variance of a graph over
    its seeds overstates the chance in the differences between graphs.

    Args:
        errors: (graphs, seeds), two of each or more.
    """
    graphs, seeds = errors.shape
    rest = errors - errors.mean(axis=1, keepdims=True) - errors.mean(axis=0) + errors.mean()
    return float((rest**2).sum() / ((graphs - 1) * (seeds - 1)))


def is_constant(values: Array) -> bool:
    """Whether these are one number: means of the same errors in another order differ by rounding.

    Args:
        values: (n,).
    """
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def baseline(table: pd.DataFrame) -> pd.Series | None:
    """The row of the complete graph, None if it is not there."""
    graphs = per_graph(table)
    rows = graphs[is_baseline(graphs)]
    return None if rows.empty else rows.iloc[0]


def without_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of all graphs but the complete one."""
    rest: pd.DataFrame = table[~is_baseline(table)]
    return rest
