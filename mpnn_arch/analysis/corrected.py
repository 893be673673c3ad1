"""The sweet spot with the best chosen, and many comparisons made, by the same errors.

The paper's rule tests every candidate at 5 % against the lowest of many noisy means. It answers no
question about the plane as a whole: some candidates fall out by chance alone, and the best, being
lowest partly by luck, makes the others look worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.per_graph import Array, per_graph
from mpnn_arch.analysis.results_table import final
from mpnn_arch.analysis.sweet_spot import (
    SweetSpot,
    Unit,
    candidates_of,
    lowest,
    region,
    sweet_spot,
)
from mpnn_arch.checks import check_choice, check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

# Candidates that the simultaneous test compares, all with all: more would take minutes.
MOST = 600


@dataclass(frozen=True)
class SimultaneousSpot:
    """A simultaneous sweet spot, and whether there is one.

    Args:
        exists: whether the landscape is not flat and the region leaves something out.
        flat_p: p-value of a flat landscape (one-way analysis of variance).
        spot: what may be the best; everything, if there is no sweet spot.
        reason: a sentence.
    """

    exists: bool
    flat_p: float
    spot: SweetSpot
    reason: str


def corrected_sweet_spot(
    table: pd.DataFrame,
    method: Literal["holm", "fdr_bh"] = "holm",
    unit: Unit | Literal["auto"] = "auto",
    alpha: float = 0.05,
) -> SweetSpot:
    """The paper's sweet spot with its p-values corrected for their number.

    Fewer candidates are called worse, so the region is wider than the paper's.

    Args:
        table: a tidy table.
        method: ``"holm"`` bounds the chance of one wrong exclusion, ``"fdr_bh"`` the share of
            wrong exclusions among all.
        unit: see :func:`~mpnn_arch.analysis.sweet_spot.sweet_spot`.
        alpha: level.

    Raises:
        InputError: as for :func:`~mpnn_arch.analysis.sweet_spot.sweet_spot`.

    Source: Holm, Scandinavian Journal of Statistics 1979; Benjamini and Hochberg, JRSS B 1995.

    Example:
        >>> from mpnn_arch.analysis import corrected_sweet_spot, load_results
        >>> spot = corrected_sweet_spot(load_results("results.csv"), method="holm")
        >>> int(spot.candidates["kept"].sum())
        22
    """
    plain = sweet_spot(table, unit, alpha)
    rows = plain.candidates
    kept = np.ones(len(rows), dtype=bool)
    rest = kept.copy()
    rest[lowest(rows["mean"].to_numpy())] = False
    p_value = rows["p_value"].to_numpy(copy=True)
    p_value[rest] = adjusted(p_value[rest], method)
    kept[rest] = p_value[rest] > alpha
    return region(rows.assign(p_value=p_value, kept=kept), plain.unit)


def adjusted(p_value: Array, method: Literal["holm", "fdr_bh"] = "holm") -> Array:
    """p-values corrected for their number.

    As ``statsmodels.stats.multitest.multipletests``, which collects garbage at every call and would
    take most of the time where results are made up by the hundred.

    Raises:
        InputError: no such method.
    """
    check_choice("correction", method, ("holm", "fdr_bh"))
    if method == "fdr_bh":
        corrected: Array = stats.false_discovery_control(p_value)
        return corrected
    order = np.argsort(p_value)
    stepped = np.maximum.accumulate(p_value[order] * np.arange(len(p_value), 0, -1))
    values = np.empty(len(p_value))
    values[order] = stepped.clip(max=1.0)
    return values


def simultaneous_sweet_spot(
    table: pd.DataFrame,
    unit: Unit | Literal["auto"] = "auto",
    alpha: float = 0.05,
    draws: int = 4000,
    seed: int = 0,
) -> SimultaneousSpot:
    """The candidates that may be the best, by a test made for that question.

    A bin is judged by the means of its graphs, not by all errors as if they were independent. All
    candidates share one deviation. Candidate i stays unless the largest of its standardised
    differences (mean_i - mean_j) over all j is beyond what equal means would give: whichever
    candidate is truly the best, it stays with probability 1 - alpha or more. And there is a sweet
    spot only where the means differ at all.

    Args:
        table: a tidy table.
        unit: see :func:`~mpnn_arch.analysis.sweet_spot.sweet_spot`.
        alpha: level of both tests.
        draws: of the null distribution.
        seed: of the draws.

    Raises:
        InputError: as for :func:`~mpnn_arch.analysis.sweet_spot.sweet_spot`, no candidate with two
            values, or more than 600 candidates.

    Source: Gupta, On some multiple decision rules, Technometrics 1965; Hsu, Constrained
    simultaneous confidence intervals for multiple comparisons with the best, Annals of Statistics
    1984.

    Example:
        >>> from mpnn_arch.analysis import load_results, simultaneous_sweet_spot
        >>> found = simultaneous_sweet_spot(load_results("results.csv"), draws=500)
        >>> found.exists
        True
    """
    alpha = check_range("alpha", alpha, 0, 1)
    draws, seed = check_whole("draws", draws, 1, 10**6), check_whole("seed", seed, 0)
    groups, unit = values_by_candidate(table, unit)
    names = groups["name"].to_numpy()
    mean, within, count, free = moments(groups)
    best_set = BestSet(count, free, draws, seed)
    p_value = best_set.p_values(mean, within)
    p_value[int(mean.argmin())] = 1.0
    flat_p = flatness(mean, within, count, free)
    exists = bool(flat_p <= alpha and (p_value <= alpha).any())
    candidates, _ = candidates_of(table, unit)
    rows = candidates.set_index("name").loc[names, [*C_AND_L, "graphs"]].reset_index()
    rows = rows.assign(count=count, mean=mean, std=within, p_value=p_value)
    spot = region(rows.assign(kept=(p_value > alpha) | (not exists)), unit)
    if exists:
        reason = f"{int(rows['p_value'].gt(alpha).sum())} of {len(rows)} may be the best"
    elif flat_p > alpha:
        reason = f"the means of all {len(rows)} do not differ (p = {flat_p:.2g}): no sweet spot"
    else:
        reason = f"any of all {len(rows)} may be the best: no sweet spot"
    return SimultaneousSpot(exists, flat_p, spot, reason)


class BestSet:
    """The null distribution of every candidate's largest standardised difference.

    Args:
        count: values of every candidate.
        free: degrees of freedom of their common deviation.
        draws: of the distribution.
        seed: of the draws.

    Raises:
        InputError: more than 600 candidates.
    """

    def __init__(self, count: Array, free: int, draws: int = 4000, seed: int = 0) -> None:
        if len(count) > MOST:
            raise InputError(
                f"{len(count)} candidates are too many to compare all with all, {MOST} are the "
                "most; take bins as the unit"
            )
        random = np.random.default_rng(seed)
        means = random.standard_normal((draws, len(count))) / np.sqrt(count)
        deviation = np.sqrt(random.chisquare(free, draws) / free)
        self.scale = np.sqrt(1 / count[:, None] + 1 / count)
        self.null = np.sort(_largest(means, self.scale) / deviation[:, None], axis=0)

    def p_values(self, mean: Array, deviation: float) -> Array:
        """(k,): the chance of a difference as large if all means were equal."""
        with np.errstate(divide="ignore", invalid="ignore"):
            differences = np.nan_to_num(_largest(mean[None], self.scale)[0] / deviation, nan=0.0)
        draws = len(self.null)
        below = [
            np.searchsorted(column, value)
            for column, value in zip(self.null.T, differences, strict=True)
        ]
        return (draws - np.array(below, dtype=np.float64) + 1) / (draws + 1)


def values_by_candidate(
    table: pd.DataFrame, unit: Unit | Literal["auto"] = "auto"
) -> tuple[pd.DataFrame, Unit]:
    """The independent values of every candidate: a bin's graph means, or a graph's errors.

    Returns:
        A row a candidate: ``name``, ``count``, ``mean``, ``squares`` (about the mean).
    """
    _, unit = candidates_of(table, unit)
    if unit == "bin":
        graphs = per_graph(table)
        rows = binned(graphs, plane_of(graphs)).rename(columns={"bin": "name", "mean": "value"})
    else:
        rows = final(table).rename(columns={"graph": "name", "error": "value"})
    grouped = rows.groupby("name", sort=True)["value"]
    groups = pd.DataFrame({"count": grouped.size(), "mean": grouped.mean()})
    groups["squares"] = grouped.var(ddof=0) * groups["count"]
    return groups.reset_index(), unit


def moments(groups: pd.DataFrame) -> tuple[Array, float, Array, int]:
    """Means, common deviation, counts, and degrees of freedom.

    Raises:
        InputError: no candidate has two values.
    """
    count = groups["count"].to_numpy(dtype=np.float64)
    free = int(count.sum()) - len(count)
    if free < 1:
        raise InputError("no candidate has two values, so the size of chance is unknown")
    within = float(np.sqrt(groups["squares"].sum() / free))
    return groups["mean"].to_numpy(dtype=np.float64), within, count, free


def flatness(mean: Array, within: float, count: Array, free: int) -> float:
    """p-value of equal means: one-way analysis of variance."""
    between = float((count * (mean - np.average(mean, weights=count)) ** 2).sum())
    if within == 0:
        return 0.0 if between > 0 else 1.0
    ratio = between / (len(mean) - 1) / within**2
    return float(stats.f.sf(ratio, len(mean) - 1, free))


def _largest(means: Array, scale: Array) -> Array:
    """(draws, k): max over j of (mean_i - mean_j) / scale_ij; 0 stands for j = i."""
    largest = np.empty_like(means)
    for i in range(means.shape[1]):
        largest[:, i] = ((means[:, i, None] - means) / scale[i]).max(axis=1)
    return largest
