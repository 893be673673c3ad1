"""Slices through the landscape: error against one measure, the other held in a narrow range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS

from mpnn_arch.analysis.per_graph import is_constant, per_graph, without_baseline
from mpnn_arch.checks import as_numbers, check_choice, counted, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

# The paper's: error against L where C is in this range, and against C where L is in that.
PAPER_SLICES = {
    "average_path_length": ("clustering_coefficient", 0.4, 0.6),
    "clustering_coefficient": ("average_path_length", 2.0, 2.5),
}


@dataclass(frozen=True)
class Slice:
    """A second-degree regression of error on one measure.

    Args:
        along: the measure.
        across: the other one.
        within: its range.
        points: the graphs of the slice, see :func:`~mpnn_arch.analysis.per_graph.per_graph`.
        curve: the regression along the slice: the measure, ``error``, ``low`` and ``high`` (95 %
            confidence of the mean).
        r2: share of the variance between graphs that it explains.
        curvature: coefficient of the square, in points per unit squared.
        curvature_interval: 95 %.
        curvature_p: p-value of a straight line.
        lowest: where the curve is lowest; at an end if it has no minimum inside.
    """

    along: str
    across: str
    within: tuple[float, float]
    points: pd.DataFrame
    curve: pd.DataFrame
    r2: float
    curvature: float
    curvature_interval: tuple[float, float]
    curvature_p: float
    lowest: float


def slice_of(table: pd.DataFrame, along: str, within: tuple[float, float] | None = None) -> Slice:
    """Second-degree regression over the graphs of a slice, the baseline left out.

    Args:
        table: a tidy table.
        along: ``"average_path_length"`` or ``"clustering_coefficient"``.
        within: range of the other measure; by default the paper's, C in 0.4-0.6 and L in 2-2.5.

    Raises:
        InputError: no such measure, or fewer than five different values of it in the slice.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.2 and Figure 4.

    Example:
        >>> from mpnn_arch.analysis import load_results, slice_of
        >>> type(slice_of(load_results("results.csv"), "average_path_length", (0, 1))).__name__
        'Slice'
    """
    check_choice("measure to slice along", along, C_AND_L)
    across, *ends = PAPER_SLICES[along]
    ends = as_numbers("within", ends if within is None else within).tolist()
    if len(ends) != 2:
        raise InputError(f"within is a lowest and a highest value, not {shown(within)}; give two")
    low, high = ends
    graphs = per_graph(without_baseline(table))
    points = graphs[graphs[across].between(low, high)].sort_values(along)
    if (different := points[along].nunique()) < 5:
        raise InputError(
            f"a second-degree regression takes five different values of {along} or more, and the "
            f"{counted(len(points), 'graph')} with {across} within {low:g} to {high:g} have "
            f"{different}; widen the range"
        )
    x, errors = (points[name].to_numpy(dtype=np.float64) for name in (along, "mean"))
    if is_constant(errors):
        raise InputError("all graphs of the slice have one error, which no curve explains")
    fit: Any = OLS(errors, _powers(x)).fit()
    at = np.linspace(x.min(), x.max(), 80)
    band = fit.get_prediction(_powers(at)).summary_frame(alpha=0.05)
    curve = pd.DataFrame(
        {
            along: at,
            "error": band["mean"],
            "low": band["mean_ci_lower"],
            "high": band["mean_ci_upper"],
        }
    )
    interval = fit.conf_int(0.05)[2]
    return Slice(
        along,
        across,
        (float(low), float(high)),
        points.reset_index(drop=True),
        curve,
        float(fit.rsquared),
        float(fit.params[2]),
        (float(interval[0]), float(interval[1])),
        float(fit.pvalues[2]),
        float(at[curve["error"].to_numpy().argmin()]),
    )


def _powers(x: np.ndarray) -> np.ndarray:
    return np.vander(x, 3, increasing=True)
