"""How far the sweet spot would move if the graphs were drawn and trained again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.per_graph import Array, Flags, per_graph
from mpnn_arch.analysis.sweet_spot import Range, Unit, candidates_of, lowest
from mpnn_arch.checks import check_range, check_whole
from mpnn_arch.graphs.design_space import C_AND_L

# Mean, variance and number of errors of every candidate in one resample.
Draw = Callable[[np.random.Generator], tuple[Array, Array, Array]]


@dataclass(frozen=True)
class BootstrapRegion:
    """The paper's rule applied to resampled results.

    Args:
        draws: resamples.
        candidates: every bin or graph: C, L, ``mean``, ``kept_share`` (of the resamples in which it
            is kept) and ``best_share`` (in which it is the best; those that tie share one).
        clustering_coefficient: 2.5 and 97.5 % of the lower end of C, and of the upper.
        average_path_length: the same for L.
    """

    draws: int
    candidates: pd.DataFrame
    clustering_coefficient: tuple[Range, Range]
    average_path_length: tuple[Range, Range]


def bootstrap_region(
    table: pd.DataFrame,
    unit: Unit | Literal["auto"] = "auto",
    draws: int = 500,
    alpha: float = 0.05,
    seed: int = 0,
) -> BootstrapRegion:
    """Resample, and find the sweet spot each time.

    Bins: their graphs are drawn with replacement, each with all its errors. Graphs: three errors
    are too few to draw from, so means and deviations are drawn from the normal model with one
    deviation for all.

    Raises:
        InputError: as the paper's rule.

    Example:
        >>> from mpnn_arch.analysis import bootstrap_region, load_results
        >>> region = bootstrap_region(load_results("results.csv"), draws=50)
        >>> region.draws
        50
    """
    draws, seed = check_whole("draws", draws, 1, 10**6), check_whole("seed", seed, 0)
    alpha = check_range("alpha", alpha, 0, 1)
    candidates, unit = candidates_of(table, unit)
    random = np.random.default_rng(seed)
    draw = _draw_bins(table) if unit == "bin" else _draw_graphs(candidates)
    place = candidates[list(C_AND_L)].to_numpy(dtype=np.float64)
    kept_share, best_share = np.zeros(len(candidates)), np.zeros(len(candidates))
    ends = np.empty((draws, 4))
    for number in range(draws):
        mean, variance, count = draw(random)
        best = lowest(mean)
        kept = ~np.all([_worse(mean, variance, count, one, alpha) for one in best], axis=0)
        kept_share += kept
        best_share[best] += 1 / len(best)
        ends[number] = np.concatenate([place[kept].min(axis=0), place[kept].max(axis=0)])
    low, high = np.quantile(ends, [0.025, 0.975], axis=0)
    c_ends, l_ends = (
        ((float(low[i]), float(high[i])), (float(low[i + 2]), float(high[i + 2]))) for i in (0, 1)
    )
    rows = candidates[["name", *C_AND_L, "mean"]]
    rows = rows.assign(kept_share=kept_share / draws, best_share=best_share / draws)
    return BootstrapRegion(draws, rows, c_ends, l_ends)


def _draw_bins(table: pd.DataFrame) -> Draw:
    graphs = per_graph(table)
    placed = binned(graphs, plane_of(graphs)).sort_values(["c_bin", "l_bin"])
    sizes = placed.groupby(["c_bin", "l_bin"]).size().to_numpy()
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    # About a common value: sums of squares of large numbers lose digits.
    middle = placed["mean"].mean()
    seeds = placed["seeds"].to_numpy(dtype=np.float64)
    shifted = placed["sum"] - middle * seeds
    squares = placed["squares"] - 2 * middle * placed["sum"] + seeds * middle**2
    columns = np.stack([seeds, shifted.to_numpy(), squares.to_numpy()], axis=1)

    def draw(random: np.random.Generator) -> tuple[Array, Array, Array]:
        within = (random.random(len(columns)) * np.repeat(sizes, sizes)).astype(np.int64)
        count, total, square = np.add.reduceat(columns[np.repeat(starts, sizes) + within], starts).T
        spread = (square - total**2 / count).clip(min=0)
        return total / count, spread / (count - 1).clip(min=1), count

    return draw


def _draw_graphs(candidates: pd.DataFrame) -> Draw:
    mean, std, count = (candidates[name].to_numpy(dtype=float) for name in ("mean", "std", "count"))
    free = (count - 1).clip(min=0)
    variance = float((free * std**2).sum() / free.sum())

    def draw(random: np.random.Generator) -> tuple[Array, Array, Array]:
        drawn = mean + np.sqrt(variance / count) * random.standard_normal(len(mean))
        chance = np.where(free > 0, random.chisquare(free.clip(min=1)) / free.clip(min=1), 0.0)
        return drawn, variance * chance, count

    return draw


def _worse(mean: Array, variance: Array, count: Array, best: int, alpha: float) -> Flags:
    """Which are worse than ``best`` in the paper's t-test: by critical values, which is quicker."""
    free = count + count[best] - 2
    pooled = ((count - 1) * variance + (count[best] - 1) * variance[best]) / free.clip(min=1)
    error = np.sqrt(pooled * (1 / count + 1 / count[best]))
    with np.errstate(invalid="ignore"):
        critical = stats.t.isf(alpha, free)
        worse = mean - mean[best] > critical * error
    worse[best] = False
    answer: Flags = worse & (free > 0)
    return answer
