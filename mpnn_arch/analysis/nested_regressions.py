"""Nested regressions: their features, whether more explain more, and how sure the gain is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpnn_arch.analysis.per_graph import Array

# A column's part beyond those before it, as a share of its length, that is more than rounding.
_LEAST = 1e-8


def independent_columns(features: Array) -> Array:
    """The columns that are no linear combination of those before them.

    Graphs of two densities have one power of it, whichever are asked for. The others would count as
    degrees of freedom, and an orthonormal basis would have made-up directions in their places.

    Args:
        features: (n, k).

    Returns:
        (n, rank): these columns in their order.
    """
    basis, kept = np.empty((len(features), 0)), []
    for place, column in enumerate(features.T):
        rest = column
        for _ in range(2):  # once more for what rounding left
            rest = rest - basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        if length > _LEAST * np.linalg.norm(column):
            basis = np.column_stack([basis, rest / length])
            kept.append(place)
    return features[:, kept]


def p_of_more(more: Any, less: Any) -> float:
    """p-value that the features which one fit has beyond another explain nothing (F-test).

    1 where it has none: they were combinations of the others'.

    Args:
        more, less: results of statsmodels' OLS on independent features.
    """
    if more.df_resid == less.df_resid:
        return 1.0
    return float(more.compare_f_test(less)[1])


def resampled_r2(
    features: Array, sizes: Sequence[int], errors: Array, draws: int, random: np.random.Generator
) -> Array:
    """R^2 of nested least-squares regressions on rows drawn with replacement.

    Args:
        features: (n, k), a constant first.
        sizes: of each regression, the number of leading columns that it has.
        errors: (n,) what is explained.
        draws: sets of n rows.
        random: draws them.

    Returns:
        (draws, len(sizes)). 0 where the errors drawn are all equal.
    """
    # In an orthonormal basis whose leading columns span those of the features, the small normal
    # equations of a draw are as well conditioned as the regression itself is.
    basis = np.linalg.qr(features)[0]
    centred = errors - errors.mean()
    found = np.zeros((draws, len(sizes)))
    for shares in found:
        rows = random.integers(len(errors), size=len(errors))
        times = np.bincount(rows, minlength=len(errors))
        weighted = basis * times[:, None]
        products, targets = weighted.T @ basis, weighted.T @ centred
        of_mean = (times @ centred) ** 2 / len(errors)
        total = times @ centred**2 - of_mean
        if total <= 0:
            continue
        for place, size in enumerate(sizes):
            weights = np.linalg.lstsq(products[:size, :size], targets[:size])[0]
            shares[place] = (targets[:size] @ weights - of_mean) / total
    return found


def gain_interval(gain: float, resampled: Array) -> tuple[float, float]:
    """95 % of the variance that features add, from what they add in resamples.

    What features add to the R^2 of the data at hand is never negative, and rows drawn twice raise
    it again: the plain quantiles lie above 0 where nothing is added. Resampling shows the size of
    either excess, the mean of ``resampled`` less ``gain``; the quantiles are moved down by the two.

    Args:
        gain: added R^2 on the data.
        resampled: (draws,) added R^2 on the resamples.
    """
    low, high = np.quantile(resampled, [0.025, 0.975]) - 2 * (resampled.mean() - gain)
    return float(low), float(high)
