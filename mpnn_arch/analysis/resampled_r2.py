"""How far the explained variance of nested regressions is a matter of which graphs were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpnn_arch.analysis.per_graph import Array


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
