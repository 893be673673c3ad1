"""A smooth surface over C and L, against density alone as the rival explanation."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from mpnn_arch.analysis.cross_validation import explained, explained_interval, held_out
from mpnn_arch.analysis.density_curve import density_features, plane_features, with_density
from mpnn_arch.analysis.per_graph import (
    Array,
    error_matrix,
    is_constant,
    per_graph,
    run_variance,
    without_baseline,
)
from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

# A Gaussian process takes the cube of the graphs in time; more than these are not fitted to.
MOST = 600


def surfaces(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Cross-validated share of the variance between graphs that smooth functions explain.

    ==============================  =========================================================
    ``density``                     cubic in log density
    ``quadratic``                   second-degree surface in C and L
    ``quadratic and density``       the two together
    ``gaussian process``            in C and L
    ``gaussian process, density``   in C, L and log density
    ``ceiling``                     what any function of the graph could explain: one less the
                                    share of chance in the means over training seeds, to which
                                    what a seed does to all graphs alike does not count
    ==============================  =========================================================

    The Gaussian processes are fitted to 600 graphs of the other folds at most, drawn at random.

    Args:
        table: a tidy table; the baseline is left out.
        seed: of the folds and of that draw.

    Returns:
        A row a function: ``function``, ``r2``, ``r2_low``, ``r2_high`` (95 % over resampled
        graphs; of the ceiling by the F distribution), ``gain`` over density with ``gain_low`` and
        ``gain_high``, and ``rmse`` in points. The ceiling of one training seed is NaN.

    Raises:
        InputError: fewer than ten graphs.

    Example:
        >>> from mpnn_arch.analysis import load_results, surfaces
        >>> table = surfaces(load_results("results.csv")).set_index("function")
        >>> bool(table["r2"]["quadratic"] > table["r2"]["density"])
        True
    """
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    graphs = with_density(per_graph(without_baseline(table)))
    errors = graphs["mean"].to_numpy(dtype=np.float64)
    if is_constant(errors):
        raise InputError("all graphs have one error, so there is no variance to explain")
    density, plane = density_features(graphs), plane_features(graphs)
    flat = [graphs[name].to_numpy(dtype=np.float64) for name in C_AND_L]
    scaled = _scaled(np.stack(flat, axis=1))
    log = _scaled(np.log(graphs[["density"]].to_numpy(dtype=np.float64)))
    models = {
        "density": held_out(density, errors, seed=seed),
        "quadratic": held_out(plane, errors, seed=seed),
        "quadratic and density": held_out(np.hstack([plane, density]), errors, seed=seed),
        "gaussian process": held_out(scaled, errors, _Process(2, seed), seed),
        "gaussian process, density": held_out(
            np.hstack([scaled, log]), errors, _Process(3, seed), seed
        ),
    }
    rows: list[tuple[object, ...]] = []
    for name, predicted in models.items():
        interval = explained_interval(predicted, errors, seed=seed)
        gain = explained(predicted, errors) - explained(models["density"], errors)
        over = explained_interval(predicted, errors, models["density"], seed=seed)
        rmse = float(np.sqrt(((errors - predicted) ** 2).mean()))
        rows.append((name, explained(predicted, errors), *interval, gain, *over, rmse))
    rows.append(("ceiling", *_ceiling(without_baseline(table), graphs), *[np.nan] * 4))
    columns = ["function", "r2", "r2_low", "r2_high", "gain", "gain_low", "gain_high", "rmse"]
    return pd.DataFrame(rows, columns=columns)


def _ceiling(table: pd.DataFrame, graphs: pd.DataFrame) -> tuple[float, float, float]:
    """The share and its 95 % interval, as of an intraclass correlation (Shrout and Fleiss)."""
    seeds = graphs["seeds"].to_numpy(dtype=np.float64)
    if (seeds < 2).all():
        return float("nan"), float("nan"), float("nan")
    errors = error_matrix(table)[1]
    if min(errors.shape) > 1:
        luck = run_variance(errors) * float((1 / seeds).mean())
        free = (errors.shape[0] - 1) * (errors.shape[1] - 1)
    else:  # every graph has seeds of its own
        several = seeds > 1
        within = graphs["std"].to_numpy()[several] ** 2 * seeds[several] / (seeds[several] - 1)
        luck = float((within / seeds[several]).mean())
        free = int((seeds[several] - 1).sum())
    share = luck / float(graphs["mean"].var(ddof=1))
    high, low = stats.f.ppf([0.025, 0.975], len(seeds) - 1, free)
    at_most, least, most = (max(0.0, 1 - share * factor) for factor in (1.0, low, high))
    return at_most, least, most


def _scaled(values: Array) -> Array:
    scaled: Array = (values - values.mean(axis=0)) / np.where(
        values.std(axis=0) > 0, values.std(0), 1
    )
    return scaled


class _Process(GaussianProcessRegressor):  # type: ignore[misc]
    """A Gaussian process with a length scale a feature, fitted to ``MOST`` graphs or fewer.

    Its scales are found on a third of them, which is quick and near enough.
    """

    def __init__(self, features: int = 2, seed: int = 0) -> None:
        self.features, self.seed = features, seed
        kernel = ConstantKernel(1.0) * RBF(np.ones(features), (0.05, 50)) + WhiteKernel(0.5)
        super().__init__(kernel, normalize_y=True, random_state=seed)

    def fit(self, X: Array, y: Array) -> _Process:
        rows = np.random.default_rng(self.seed).permutation(len(y))[:MOST]
        few = rows[: max(40, MOST // 3)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            search = GaussianProcessRegressor(self.kernel, normalize_y=True).fit(X[few], y[few])
        fixed = GaussianProcessRegressor(search.kernel_, optimizer=None, normalize_y=True)
        self.fitted_ = fixed.fit(X[rows], y[rows])
        return self

    def predict(self, X: Array) -> Array:
        predicted: Array = self.fitted_.predict(X)
        return predicted
