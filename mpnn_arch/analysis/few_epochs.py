"""Few epochs: does an early epoch rank the graphs as the last does?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mpnn_arch.analysis.correlation import correlate
from mpnn_arch.analysis.per_graph import Array, complete_part, is_constant
from mpnn_arch.analysis.results_table import check_table
from mpnn_arch.checks import as_list, check_whole
from mpnn_arch.errors import InputError


def few_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """Correlation of the graphs' mean errors after epoch t with those after the last.

    Args:
        table: a tidy table of several epochs; all graphs are taken, the baseline too.

    Returns:
        A row per epoch before the last: ``epoch``, ``pearson`` with ``pearson_low`` and
        ``pearson_high`` (95 %), ``spearman``, and ``pearson_other_seeds``: epoch t of one training
        seed with the last of the others, averaged over the seeds (not a number with one seed).
        The same run's early and late errors share its luck; different runs' do not. Correlations
        are not a number where all graphs have one error after epoch t, as before a network learns.

    Raises:
        InputError: one epoch, fewer than four graphs with all of them, or one error of all graphs
            after the last.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.4 and Figure 5, right.

    Example:
        >>> from mpnn_arch.analysis import few_epochs, load_results
        >>> few_epochs(load_results("results.csv"))["epoch"].tolist()
        [1, 2]
    """
    epochs, errors, _ = curves(table)
    mean = errors.mean(axis=1)
    if is_constant(mean[:, -1]):
        raise InputError(
            f"all graphs have one error after the last epoch, {epochs[-1]}, so there is no order "
            "to compare with; give results of graphs that differ"
        )
    rows = []
    for place, epoch in enumerate(epochs[:-1]):
        found: tuple[float, ...] = (math.nan,) * 4
        if not is_constant(mean[:, place]):
            one = correlate(mean[:, place], mean[:, -1])
            found = (one.pearson, *one.pearson_interval, one.spearman)
        rows.append((epoch, *found, _other_seeds(errors[:, :, place], errors[:, :, -1])))
    names = ["pearson", "pearson_low", "pearson_high", "spearman", "pearson_other_seeds"]
    return pd.DataFrame(rows, columns=["epoch", *names])


def racing(table: pd.DataFrame, firsts: Sequence[int] = (1, 3, 10)) -> pd.DataFrame:
    """What a race would have saved and lost: halve the graphs at epochs e, 2 e, 4 e, ...

    At each the better half by mean error goes on (successive halving); the graph that leads at the
    last epoch is chosen.

    Args:
        table: a tidy table of several epochs.
        firsts: the first halving, a row each; epochs without an error are passed over.

    Returns:
        ``first_epoch``, ``saved`` (share of all epochs not trained), ``chosen`` (graph), ``error``
        of the chosen and ``lost`` (its error less the lowest), in percentage points, and ``rank``
        (1 is the best).

    Raises:
        InputError: as :func:`few_epochs`.

    Source: Jamieson and Talwalkar, Non-stochastic best arm identification, AISTATS 2016.

    Example:
        >>> from mpnn_arch.analysis import load_results, racing
        >>> race = racing(load_results("results.csv"), firsts=(1,))
        >>> round(float(race["saved"][0]), 2)  # share of the epochs that was not trained
        0.41
    """
    firsts = [check_whole("a first epoch", first, 1) for first in as_list("firsts", firsts)]
    epochs, errors, names = curves(table)
    mean, last = errors.mean(axis=1), epochs[-1]
    rows = []
    for first in firsts:
        running, cost, before, at = np.arange(len(mean)), 0, 0, first
        while at < last and len(running) > 1:
            if at in epochs:
                cost += len(running) * (at - before)
                before = at
                order = np.argsort(mean[running, epochs.index(at)], kind="stable")
                running = running[order[: (len(running) + 1) // 2]]
            at *= 2
        cost += len(running) * (last - before)
        chosen = int(running[np.argmin(mean[running, -1])])
        error, best = float(mean[chosen, -1]), float(mean[:, -1].min())
        rank = int((mean[:, -1] < error).sum()) + 1
        saved = 1 - cost / (len(mean) * last)
        rows.append((first, saved, names[chosen], error, error - best, rank))
    columns = ["first_epoch", "saved", "chosen", "error", "lost", "rank"]
    return pd.DataFrame(rows, columns=columns)


def curves(table: pd.DataFrame) -> tuple[list[int], Array, list[str]]:
    """Epochs, errors of shape (graphs, seeds, epochs), and graphs, of the largest complete part.

    A run counts if it has every epoch; see :func:`~mpnn_arch.analysis.per_graph.complete_part`.

    Raises:
        InputError: one epoch, or fewer than four graphs with all seeds and epochs.
    """
    check_table(table)
    epochs = sorted(map(int, table["epoch"].unique()))
    if len(epochs) < 2:
        raise InputError(
            "these results know one epoch only; give columns epoch1, epoch2, ... or one called "
            "epoch"
        )
    runs = table.pivot(index=["graph", "train_seed"], columns="epoch", values="error").dropna()
    there = pd.Series(True, index=runs.index).unstack(fill_value=False)
    graphs, seeds = complete_part(there.to_numpy(dtype=bool))
    if graphs.sum() < 4:
        raise InputError(
            "four graphs or more with all training seeds and epochs are needed, not "
            f"{graphs.sum()}; give more"
        )
    names, kept = there.index[graphs], there.columns[seeds]
    every = pd.MultiIndex.from_product([names, kept])
    errors = runs.loc[every].to_numpy(dtype=np.float64)
    return epochs, errors.reshape(len(names), len(kept), len(epochs)), list(names)


def _other_seeds(early: Array, late: Array) -> float:
    seeds = early.shape[1]
    if seeds < 2:
        return float("nan")
    correlations = []
    for seed in range(seeds):
        rest = np.delete(late, seed, axis=1).mean(axis=1)
        if not (is_constant(early[:, seed]) or is_constant(rest)):
            correlations.append(np.corrcoef(early[:, seed], rest)[0, 1])
    return float(np.mean(correlations)) if correlations else float("nan")
