"""Pearson's and Spearman's correlation with p-values and intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mpnn_arch.analysis.per_graph import is_constant
from mpnn_arch.checks import as_numbers
from mpnn_arch.errors import InputError


@dataclass(frozen=True)
class Correlation:
    """Two correlations of the same pairs.

    Args:
        points: how many pairs.
        pearson: r.
        pearson_p: two-sided p-value of r = 0.
        pearson_interval: 95 %, by Fisher's transformation.
        spearman: rho.
        spearman_p: two-sided p-value of rho = 0.
        spearman_interval: 95 %, by Fisher's transformation with the variance of Bonett and Wright.
    """

    points: int
    pearson: float
    pearson_p: float
    pearson_interval: tuple[float, float]
    spearman: float
    spearman_p: float
    spearman_interval: tuple[float, float]

    def to_dict(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


def correlate(first: npt.ArrayLike, second: npt.ArrayLike) -> Correlation:
    """Correlations of pairs of numbers.

    Raises:
        InputError: fewer than four pairs, or no variation in one of the two.

    Source: Bonett and Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations, Psychometrika 2000.

    Example:
        >>> from mpnn_arch.analysis import correlate
        >>> found = correlate([1, 2, 3, 4], [1, 2, 4, 3])
        >>> round(found.pearson, 2), round(found.spearman, 2)
        (0.8, 0.8)
    """
    x, y = as_numbers("first", first), as_numbers("second", second)
    if len(x) < 4:
        raise InputError(f"a correlation takes four or more pairs, not {len(x)}; give more")
    if is_constant(x) or is_constant(y):
        raise InputError("one side of the pairs is constant, which correlates with nothing")
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    low, high = pearson.confidence_interval(0.95)
    rho = float(spearman.statistic)
    half = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    with np.errstate(divide="ignore"):
        ends = np.tanh(np.arctanh(rho) + half * np.array([-1.0, 1.0]))
    return Correlation(
        len(x),
        float(pearson.statistic),
        float(pearson.pvalue),
        (float(low), float(high)),
        rho,
        float(spearman.pvalue),
        (float(ends[0]), float(ends[1])),
    )
