"""Pairing the training seeds: do runs that share a seed share their luck?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.per_graph import Array, error_matrix, per_graph, run_variance
from mpnn_arch.analysis.sweet_spot import SweetSpot, Unit, candidates_of, lowest, region
from mpnn_arch.checks import check_range, counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L


@dataclass(frozen=True)
class Shares:
    """What the variance of errors over graphs and training seeds consists of.

    Args:
        graph: share due to the graph.
        seed: share due to the training seed, the same for all graphs: what pairing removes.
        rest: chance of the single run.
        seed_p: p-value of no effect of the seed.
    """

    graph: float
    seed: float
    rest: float
    seed_p: float


def variance_shares(table: pd.DataFrame) -> Shares:
    """Two-way analysis of variance without interaction, components by expected mean squares.

    Raises:
        InputError: fewer than two training seeds or graphs with errors for all.

    Example:
        >>> from mpnn_arch.analysis import load_results, variance_shares
        >>> shares = variance_shares(load_results("results.csv"))
        >>> round(shares.graph, 2)  # of the variance, due to the graph
        0.97
    """
    _, errors = _matrix(table)
    graphs, seeds = errors.shape
    whole = errors.mean()
    mean_squares = (
        seeds * ((errors.mean(axis=1) - whole) ** 2).sum() / (graphs - 1),
        graphs * ((errors.mean(axis=0) - whole) ** 2).sum() / (seeds - 1),
        run_variance(errors),
    )
    # What rounding leaves of an effect that is not there is none.
    graph, seed, rest = (one if one > 1e-18 else 0.0 for one in mean_squares)
    parts = np.array([max(0.0, (graph - rest) / seeds), max(0.0, (seed - rest) / graphs), rest])
    if parts.sum() == 0:
        raise InputError("all errors are equal, so there is no variance to share out")
    if rest > 0:
        seed_p = float(stats.f.sf(seed / rest, seeds - 1, (graphs - 1) * (seeds - 1)))
    else:
        seed_p = 0.0 if seed > 0 else 1.0
    of_graph, of_seed, of_rest = (parts / parts.sum()).tolist()
    return Shares(of_graph, of_seed, of_rest, seed_p)


def paired_sweet_spot(
    table: pd.DataFrame, unit: Unit | Literal["auto"] = "auto", alpha: float = 0.05
) -> SweetSpot:
    """The paper's rule with paired t-tests over the training seeds.

    Every candidate has one mean error a seed, and is compared with the best candidate seed by seed.

    Raises:
        InputError: as :func:`variance_shares`, or as the paper's rule.

    Example:
        >>> from mpnn_arch.analysis import load_results, paired_sweet_spot
        >>> spot = paired_sweet_spot(load_results("results.csv"))
        >>> int(spot.candidates["kept"].sum())
        9
    """
    alpha = check_range("alpha", alpha, 0, 1)
    graphs, errors = _matrix(table)
    candidates, unit = candidates_of(table, unit)
    if unit == "bin":
        seeds = pd.DataFrame(errors)
        # The bins of all graphs: those of the complete part may end at another L.
        placed = binned(pd.concat([graphs, seeds], axis=1), plane_of(per_graph(table)))
        by_seed = placed.groupby("bin", sort=True)[list(seeds.columns)].mean()
    else:
        by_seed = pd.DataFrame(errors, index=graphs["graph"])
    values = by_seed.to_numpy()
    best = lowest(values.mean(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        # Errors of a thousand images are few numbers: two graphs may differ by one in every seed.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        against = [
            stats.ttest_rel(values, values[[one]], axis=1, alternative="greater").pvalue
            for one in best
        ]
    p_value = np.nan_to_num(np.max(against, axis=0), nan=1.0)
    p_value[best] = 1.0
    kept = p_value > alpha
    kept[best] = True
    where = candidates.set_index("name").loc[by_seed.index, [*C_AND_L, "graphs"]]
    where = where.reset_index(names="name")  # pandas 2 names it as `by_seed` does
    rows = where.assign(
        count=values.shape[1],
        mean=values.mean(axis=1),
        std=values.std(axis=1, ddof=1),
        p_value=p_value,
        kept=kept,
    )
    return region(rows, unit)


def _matrix(table: pd.DataFrame) -> tuple[pd.DataFrame, Array]:
    graphs, errors = error_matrix(table)
    if min(errors.shape) < 2:
        raise InputError(
            f"{counted(errors.shape[0], 'graph')} with errors for all of "
            f"{counted(errors.shape[1], 'training seed')} are too few; "
            "pairing takes two graphs and two seeds or more"
        )
    return graphs, errors
