"""The sweet spot by the paper's rule: what is not significantly worse than the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from mpnn_arch.analysis.landscape import landscape
from mpnn_arch.analysis.per_graph import Array, Numbers, per_graph
from mpnn_arch.checks import as_list, check_choice, check_kind, check_range
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

Unit = Literal["bin", "graph"]
Range = tuple[float, float]


@dataclass(frozen=True)
class SweetSpot:
    """A region of the plane of C and L, and what it was found from.

    Args:
        unit: what was compared: ``"bin"`` or ``"graph"``.
        clustering_coefficient: lowest and highest C of what was kept (bins: of their middles).
        average_path_length: lowest and highest L.
        candidates: a row for every bin or graph: C, L, ``mean``, ``std``, ``count`` (values),
            ``p_value`` (one-tailed, of being worse than the best; 1 for the best) and ``kept``.
    """

    unit: Unit
    clustering_coefficient: Range
    average_path_length: Range
    candidates: pd.DataFrame

    @property
    def kept(self) -> pd.DataFrame:
        """The candidates inside."""
        rows: pd.DataFrame = self.candidates[self.candidates["kept"]]
        return rows

    def contains(self, table: pd.DataFrame) -> pd.Series:
        """Which rows lie in the rectangle, its edges included."""
        inside: pd.Series = table[C_AND_L[0]].between(*self.clustering_coefficient)
        return inside & table[C_AND_L[1]].between(*self.average_path_length)


def sweet_spot(
    table: pd.DataFrame, unit: Unit | Literal["auto"] = "auto", alpha: float = 0.05
) -> SweetSpot:
    """The paper's sweet spot.

    The best candidate is the one of lowest mean error; kept is every candidate that is not
    significantly worse in a one-tailed t-test with equal variances. Where several have the lowest
    mean, kept is what is not worse than one of them. With many graphs per bin the candidates are
    the coarse bins, each with all errors of its graphs; with one graph per bin they are the graphs.

    Args:
        table: a tidy table; of several epochs the last is taken.
        unit: ``"bin"``, ``"graph"``, or ``"auto"``: bins where most hold more than one graph.
        alpha: level of the test.

    Raises:
        InputError: one candidate, or too few errors for a test.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.1; the rule of its published code.

    Example:
        >>> from mpnn_arch.analysis import load_results, sweet_spot
        >>> spot = sweet_spot(load_results("results.csv"))
        >>> spot.unit, [round(end, 2) for end in spot.average_path_length]
        ('graph', [1.82, 2.51])
    """
    alpha = check_range("alpha", alpha, 0, 1)
    candidates, unit = candidates_of(table, unit)
    best = lowest(candidates["mean"].to_numpy())
    p_value = np.max([worse_than(candidates, one) for one in best], axis=0)
    p_value[best] = 1.0
    kept = p_value > alpha
    kept[best] = True
    return region(candidates.assign(p_value=p_value, kept=kept), unit)


def candidates_of(
    table: pd.DataFrame, unit: Unit | Literal["auto"] = "auto"
) -> tuple[pd.DataFrame, Unit]:
    """What a sweet spot is chosen from: a row for every bin or graph.

    Returns:
        ``name`` (bins: their number), C and L, ``graphs``, ``count``, ``mean``, ``std`` (N - 1, 0
        where there is one error); and the unit.

    Raises:
        InputError: no such unit, or fewer than two candidates with an error to spare for a test.
    """
    check_choice("unit", unit, ("auto", "bin", "graph"))
    bins = landscape(table)
    if unit == "auto":
        unit = "bin" if bins["graphs"].median() > 1 else "graph"
    if unit == "bin":
        candidates = bins.rename(columns={"bin": "name", "rows": "count"})
    else:
        graphs = per_graph(table)
        spread = graphs["std"] * np.sqrt(graphs["seeds"] / (graphs["seeds"] - 1).clip(lower=1))
        candidates = graphs.assign(std=spread, graphs=1)
        candidates = candidates.rename(columns={"graph": "name", "seeds": "count"})
    candidates = candidates.assign(std=candidates["std"].fillna(0.0))
    if len(candidates) < 2:
        raise InputError(f"there is one {unit} only, and nothing to compare it with; give more")
    if candidates["count"].max() < 2:
        raise InputError(
            f"every {unit} has one error, which has no deviation to test with; give results of "
            "two training seeds or more"
        )
    return candidates[["name", *C_AND_L, "graphs", "count", "mean", "std"]].reset_index(
        drop=True
    ), unit


def lowest(means: Array) -> Numbers:
    """Which candidates have the lowest mean: more than one where means are tied."""
    # Rounded, as equal means that were added in another order differ in their last digits.
    rounded = means.round(9)
    return np.flatnonzero(rounded == rounded.min())


def worse_than(candidates: pd.DataFrame, best: int) -> Array:
    """One-tailed p-values (two-sample t-test, equal variances) of being worse than row ``best``."""
    rest = [candidates[name].to_numpy(dtype=np.float64) for name in ("mean", "std", "count")]
    one = [values[best] for values in rest]
    with np.errstate(divide="ignore", invalid="ignore"):
        p: Array = stats.ttest_ind_from_stats(*rest, *one, alternative="greater").pvalue
    # No degree of freedom, or no deviation and no difference: nothing says that it is worse.
    return np.where(np.isnan(p), 1.0, p)


def region(candidates: pd.DataFrame, unit: Unit) -> SweetSpot:
    """The rectangle around the kept candidates."""
    kept = candidates[candidates["kept"]]
    ends = [(float(kept[name].min()), float(kept[name].max())) for name in C_AND_L]
    return SweetSpot(unit, ends[0], ends[1], candidates)


def intersection(spots: list[SweetSpot]) -> tuple[Range, Range] | None:
    """The rectangle of C and of L that lies in all sweet spots, None if there is none.

    The paper reports it as the union of its six (C 0.43-0.50, L 1.82-2.28).

    Raises:
        InputError: no list of sweet spots.

    Example:
        >>> from mpnn_arch.analysis import intersection, load_results, sweet_spot
        >>> spot = sweet_spot(load_results("results.csv"))
        >>> intersection([spot, spot]) == (spot.clustering_coefficient, spot.average_path_length)
        True
    """
    spots = as_list("spots", spots)
    for spot in spots:
        check_kind("a spot", spot, SweetSpot, "make it with mpnn_arch.analysis.sweet_spot")
    if not spots:
        return None
    c = [spot.clustering_coefficient for spot in spots]
    length = [spot.average_path_length for spot in spots]
    ends = [(max(low for low, _ in one), min(high for _, high in one)) for one in (c, length)]
    return None if any(low > high for low, high in ends) else (ends[0], ends[1])
