"""Structure or density: what C and L add to the number of edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from statsmodels.regression.linear_model import OLS

from mpnn_arch.analysis.density_curve import (
    DensityCurve,
    density_features,
    plane_features,
    with_density,
)
from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.nested_regressions import (
    gain_interval,
    independent_columns,
    p_of_more,
    resampled_r2,
)
from mpnn_arch.analysis.per_graph import Array, Numbers, is_constant, per_graph, without_baseline
from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError

# Points of error, and shares of variance: less is the rounding of sums in another order.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class DensityNull:
    """Graphs' mean errors explained by density, and by C and L beyond it.

    Args:
        graphs: how many, the baseline left out.
        density_r2: share of the variance that a cubic in log density explains.
        plane_r2: share that a quadratic surface in C and L explains, without density.
        both_r2: share that the two explain together.
        gain: ``both_r2`` less ``density_r2``: what C and L add.
        gain_interval: 95 %, over resampled graphs, less what any features would add by chance; the
            lower end is below 0 where C and L may add nothing.
        density_gain: ``both_r2`` less ``plane_r2``: what density adds to C and L.
        f_p: p-value of no gain by C and L (F-test).
        permutation_p: the same, errors exchanged among graphs of about equal density.
        bins: a row a coarse bin: C, L, ``graphs``, ``residual`` (mean error less that expected of
            its graphs' densities) and ``p_value`` (two-sided, of the same exchange, not corrected).
        best_bin_p: chance that exchange among graphs of equal density gives a bin of two graphs or
            more that is as much better than its density as the best here: corrected for all bins.
    """

    graphs: int
    density_r2: float
    plane_r2: float
    both_r2: float
    gain: float
    gain_interval: tuple[float, float]
    density_gain: float
    f_p: float
    permutation_p: float
    bins: pd.DataFrame
    best_bin_p: float


def density_null(
    table: pd.DataFrame, draws: int = 500, strata: int | None = None, seed: int = 0
) -> DensityNull:
    """Test C and L against graphs of equal density.

    Args:
        table: a tidy table; the baseline is left out.
        draws: resamples for the interval, and exchanges for the p-values.
        strata: classes of equal density among which errors are exchanged; by default as many as
            leave about ten graphs a class, at most 50.
        seed: of both.

    Raises:
        InputError: fewer than 12 graphs, or graphs of one density.

    Example:
        >>> from mpnn_arch.analysis import density_null, load_results
        >>> found = density_null(load_results("results.csv"), draws=50)
        >>> found.both_r2 > found.density_r2
        True
    """
    draws, seed = check_whole("draws", draws, 1, 10**6), check_whole("seed", seed, 0)
    if strata is not None:
        strata = check_whole("strata", strata, 1, 10**6)
    graphs = with_density(per_graph(without_baseline(table)))
    if len(graphs) < 12:
        raise InputError(
            f"12 graphs or more are needed to separate structure from density, not {len(graphs)}; "
            "give more"
        )
    errors = graphs["mean"].to_numpy(dtype=np.float64)
    if is_constant(errors):
        raise InputError("all graphs have one error, so there is no variance to explain")
    residual = (graphs["mean"] - DensityCurve.fit(graphs).predict(graphs["density"])).to_numpy()
    density, plane = density_features(graphs), plane_features(graphs)
    ones = np.ones((len(errors), 1))
    both = independent_columns(np.hstack([ones, density, plane]))
    explanations = *(independent_columns(np.hstack([ones, one])) for one in (density, plane)), both
    fits = [OLS(errors, features).fit() for features in explanations]
    f_p = p_of_more(fits[2], fits[0])

    random = np.random.default_rng(seed)
    sizes = [explanations[0].shape[1], both.shape[1]]
    resampled = np.diff(resampled_r2(both, sizes, errors, draws, random), axis=1)[:, 0]

    gain = fits[2].rsquared - fits[0].rsquared
    stratum = _strata(graphs["density"].to_numpy(), strata)
    shuffled = _exchanged(residual, stratum, draws, random)  # (draws, graphs)
    # Freedman and Lane: fitted by density, plus exchanged residuals, fitted again.
    added = _added(errors - residual + shuffled, explanations[0], both)
    permutation_p = float((1 + (added >= gain - _ROUNDING).sum()) / (1 + draws))

    bins, best_bin_p = _bins(graphs, residual, shuffled)
    return DensityNull(
        len(graphs),
        float(fits[0].rsquared),
        float(fits[1].rsquared),
        float(fits[2].rsquared),
        float(gain),
        gain_interval(gain, resampled),
        float(fits[2].rsquared - fits[1].rsquared),
        f_p,
        permutation_p,
        bins,
        best_bin_p,
    )


def _added(errors: Array, less: Array, more: Array) -> Array:
    """(draws,): share of the variance of each row of errors that ``more`` adds to ``less``."""
    total = ((errors - errors.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    bases = (np.linalg.qr(features)[0] for features in (more, less))
    of_more, of_less = (((errors @ basis) ** 2).sum(axis=1) / total for basis in bases)
    added: Array = of_more - of_less
    return added


def _bins(graphs: pd.DataFrame, residual: Array, shuffled: Array) -> tuple[pd.DataFrame, float]:
    plane = plane_of(graphs)
    placed = binned(graphs.assign(row=np.arange(len(graphs))), plane)
    number = placed["bin"].rank(method="dense").to_numpy().astype(int) - 1
    size = np.bincount(number).astype(np.float64)
    rows = placed["row"].to_numpy()
    means = np.bincount(number, residual[rows]) / size
    null = np.stack([np.bincount(number, draw[rows]) / size for draw in shuffled])
    extreme = (np.abs(null) >= np.abs(means) - _ROUNDING).sum(axis=0)
    first = placed.sort_values("bin").drop_duplicates("bin")
    c, length = plane.centres(first["c_bin"].to_numpy(), first["l_bin"].to_numpy())
    bins = pd.DataFrame(
        {
            "clustering_coefficient": c,
            "average_path_length": length,
            "graphs": size.astype(int),
            "residual": means,
            "p_value": (1 + extreme) / (1 + len(shuffled)),
        }
    )
    # Standardised, or the smallest bins, which vary most, would set the bar.
    spread = null.std(axis=0)
    use = (spread > _ROUNDING) & ((size > 1) | (size.max() == 1))
    if not use.any():
        return bins, 1.0
    lowest = (null[:, use] / spread[use]).min(axis=1)
    as_low = lowest <= (means[use] / spread[use]).min() + _ROUNDING
    return bins, float((1 + as_low.sum()) / (1 + len(shuffled)))


def _strata(density: Array, strata: int | None) -> Numbers:
    count = strata if strata is not None else int(np.clip(len(density) // 10, 2, 50))
    # Graphs of one density are in one class: they come in the order of their errors, by which a
    # class must not be chosen.
    lower = rankdata(density.round(9), method="min").astype(np.int64) - 1
    classes: Numbers = lower * count // len(density)
    return classes


def _exchanged(values: Array, stratum: Numbers, draws: int, random: np.random.Generator) -> Array:
    exchanged = np.empty((draws, len(values)))
    by_stratum = np.argsort(stratum, kind="stable")
    for row in exchanged:
        # Sorted by stratum and then at random: a permutation within every stratum.
        row[by_stratum] = values[np.lexsort((random.random(len(values)), stratum))]
    return exchanged
