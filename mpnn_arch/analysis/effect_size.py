"""How large a difference is, not only whether it is there."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd

from mpnn_arch.analysis.per_graph import is_constant
from mpnn_arch.checks import as_numbers
from mpnn_arch.errors import InputError


@dataclass(frozen=True)
class Effect:
    """The second group less the first.

    Args:
        first: mean of the first group.
        second: mean of the second.
        difference: second less first, in percentage points: positive if the first has less error.
        interval: 95 %, without assuming equal variances (Welch), unless ``first`` was chosen.
        p_value: of no difference, two-sided.
        hedges_g: the difference in units of the common deviation, of single values.
        hedges_interval: 95 %.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    hedges_g: float
    hedges_interval: tuple[float, float]


def effect(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    first_runs: npt.ArrayLike | None = None,
    chosen_from: Sequence[npt.ArrayLike] = (),
) -> Effect:
    """The effect between two groups of errors.

    Args:
        first, second: independent values of each group.
        first_runs: where those of ``first`` are means of several runs and those of ``second`` are
            single runs, the runs: means deviate less, and Hedges' g takes one deviation for both.
        chosen_from: where ``first`` was chosen for its mean, the values of all groups that could
            have been. Then the p-value and the intervals hold for all of them at once (Bonferroni),
            and the variance of a value is that of all groups and ``second`` together, as few values
            of two groups would say too little for so many.

    Raises:
        InputError: fewer than two values in a group, or no deviation in either.

    Source: Hedges, Distribution theory for Glass's estimator of effect size, Journal of
    Educational Statistics 1981.

    Example:
        >>> from mpnn_arch.analysis import effect
        >>> found = effect([33.1, 33.4, 33.2], [32.0, 32.3, 32.1])
        >>> round(found.difference, 2), found.p_value < 0.05
        (-1.1, True)
    """
    a, b = as_numbers("first", first), as_numbers("second", second)
    if min(len(a), len(b)) < 2:
        raise InputError(f"groups of {len(a)} and {len(b)} are too small to vary; give two or more")
    if is_constant(a) and is_constant(b):
        raise InputError("neither group varies, so the difference has no interval")
    if len(chosen_from):
        groups = [as_numbers("a group of chosen_from", values) for values in chosen_from]
        return _effect_of_chosen(a, b, groups)
    with warnings.catch_warnings():
        # One group may be of equal errors; what rounding makes of its variance is nothing beside
        # the other's.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test = stats.ttest_ind(b, a, equal_var=False)
    low, high = test.confidence_interval(0.95)
    runs = a if first_runs is None else as_numbers("first_runs", first_runs)
    g, variance = effectsize_smd(
        b.mean(), b.std(ddof=1), len(b), a.mean(), runs.std(ddof=1), len(runs)
    )
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    return Effect(
        float(a.mean()),
        float(b.mean()),
        float(b.mean() - a.mean()),
        (float(low), float(high)),
        float(test.pvalue),
        float(g),
        (float(g - half), float(g + half)),
    )


def _effect_of_chosen(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    groups: Sequence[npt.NDArray[np.float64]],
) -> Effect:
    """The effect of one of ``groups``, with intervals for all of them at once."""
    every = [*groups, second]
    free = sum(len(values) - 1 for values in every)
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in every)
    deviation = np.sqrt(squares / free)
    scale = np.sqrt(1 / len(first) + 1 / len(second))
    level = 0.05 / len(groups)
    difference = float(second.mean() - first.mean())
    half = stats.t.ppf(1 - level / 2, free) * deviation * scale
    p_value = len(groups) * 2 * stats.t.sf(abs(difference) / (deviation * scale), free)
    g = difference / deviation * (1 - 3 / (4 * free - 1))
    half_g = stats.norm.ppf(1 - level / 2) * np.sqrt(scale**2 + g**2 / (2 * free))
    return Effect(
        float(first.mean()),
        float(second.mean()),
        difference,
        (float(difference - half), float(difference + half)),
        min(1.0, float(p_value)),
        float(g),
        (float(g - half_g), float(g + half_g)),
    )
