"""Structure or chance, by dose: error against how far a graph's C and L are from its nulls'."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.regression.linear_model import OLS

from mpnn_arch.analysis.families import family_errors
from mpnn_arch.analysis.per_graph import Array
from mpnn_arch.checks import as_numbers, check_columns, check_range
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L


@dataclass(frozen=True)
class StructureSlopes:
    """What an excess of C and of L over the null graphs does to the error.

    Attributes:
        families: graphs with nulls.
        clustering_slope, path_length_slope: points of error per unit of C and of L, each with the
            other held; ``_interval`` 95 %, ``_p`` two-sided.
        p_value: F-test that both are 0.
        r2: share of the squared differences in error that they explain (no intercept).
    """

    families: int
    clustering_slope: float
    clustering_interval: tuple[float, float]
    clustering_p: float
    path_length_slope: float
    path_length_interval: tuple[float, float]
    path_length_p: float
    p_value: float
    r2: float


def structure_slopes(table: pd.DataFrame) -> StructureSlopes:
    """Regress the difference in error between a graph and its nulls on those in C and L.

    With d_f the mean error of graph f less that of its nulls, and dC_f, dL_f the same of C and L,

        d_f = b_C dC_f + b_L dL_f + chance

    without an intercept: a graph with the C and L of its nulls is expected to have their error.
    Density and whatever else the nulls share with their graph cannot cause a slope. Where few
    graphs differ from their nulls, as among dense random ones, a mean over graphs hides what a
    slope shows.

    Args:
        table: as for :func:`~mpnn_arch.analysis.compare_families`, with ``clustering_coefficient``
            and ``average_path_length``.

    Raises:
        InputError: as there, C and L missing, or equal to the nulls' in all graphs.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from mpnn_arch.analysis import structure_slopes
        >>> random, rows = np.random.default_rng(0), []
        >>> for family in range(8):  # a graph and two nulls each, trained from two seeds
        ...     for graph in range(3):
        ...         c, length = random.random(), 2 + random.random()
        ...         for seed in range(2):
        ...             error = 30 + 5 * c - 2 * length + 0.1 * random.standard_normal()
        ...             name = f"{family}-{graph}"
        ...             rows.append((family, name, graph > 0, seed, c, length, error))
        >>> names = ["family", "graph", "is_null", "train_seed"]
        >>> names += ["clustering_coefficient", "average_path_length", "error"]
        >>> slopes = structure_slopes(pd.DataFrame(rows, columns=names))
        >>> round(slopes.clustering_slope), round(slopes.path_length_slope)
        (5, -2)
    """
    gap, excess = differences(table)
    rank = np.linalg.matrix_rank(excess)
    if rank < 2 or len(gap) < 4:
        raise InputError(
            "slopes take 4 graphs or more that differ from their nulls in both of C and L, not "
            f"{len(gap)} that differ in {rank}; give more"
        )
    fit = OLS(gap, excess).fit()
    (c_low, c_high), (l_low, l_high) = np.asarray(fit.conf_int(0.05), dtype=np.float64).tolist()
    return StructureSlopes(
        len(gap),
        float(fit.params[0]),
        (c_low, c_high),
        float(fit.pvalues[0]),
        float(fit.params[1]),
        (l_low, l_high),
        float(fit.pvalues[1]),
        float(fit.f_test(np.eye(2)).pvalue),
        float(fit.rsquared),
    )


def differences(table: pd.DataFrame) -> tuple[Array, Array]:
    """Error less the nulls', shape (F,), and C and L less the nulls', (F, 2), of F families.

    Raises:
        InputError: as :func:`structure_slopes`.
    """
    check_columns(table, C_AND_L, "add the graphs' C and L")
    if not np.isfinite(table[list(C_AND_L)].to_numpy(dtype=np.float64)).all():
        raise InputError("some graphs have no finite C or L; leave out their families")
    wide, errors = family_errors(table)
    keys = list(wide.index.names)
    plane = table.drop_duplicates(keys).set_index(keys).loc[wide.index, list(C_AND_L)]
    where = plane.to_numpy(dtype=np.float64).reshape(*errors.shape[:2], 2)
    graphs = errors.mean(axis=2)
    return graphs[:, 0] - graphs[:, 1:].mean(axis=1), where[:, 0] - where[:, 1:].mean(axis=1)


def detectable_slope(
    excess: Array, deviation: float, *, power: float = 0.8, alpha: float = 0.05
) -> tuple[float, float]:
    """The slopes of C alone and of L alone that the joint F-test finds with this power.

    Args:
        excess: (F, 2), C and L of F graphs less those of their nulls.
        deviation: standard deviation of one graph's error less its nulls', in points:
            sqrt((w^2 + s^2 / seeds) (1 + 1 / nulls)) with s of one training and w between graphs.
        power: chance of finding it.
        alpha: level of the test.

    Raises:
        InputError: fewer than 4 graphs, a value out of its range, or a power that is the level, or
            that slopes reach only far beyond the noise.

    Example:
        >>> from mpnn_arch.analysis import detectable_slope
        >>> excess = [(0.1, 0.2), (0.3, -0.1), (-0.2, 0.1), (0.2, 0.3), (0.0, -0.2)]
        >>> c, length = detectable_slope(excess, deviation=0.2)
        >>> round(c, 2), round(length, 2)  # points of error per unit of C, of L
        (2.63, 2.56)
    """
    excess = as_numbers("excess", excess, dimensions=2)
    deviation = check_range("deviation", deviation, 1e-12, 1e6)
    alpha = check_range("alpha", alpha, 1e-12, 0.5)
    power = check_range("power", power, alpha, 1 - 1e-9)
    if excess.shape[1] != 2 or len(excess) < 4:
        raise InputError(f"excess has shape (graphs, 2), 4 graphs or more, not {excess.shape}")
    free = len(excess) - 2
    limit = stats.f.isf(alpha, 2, free)

    def beyond(shift: float) -> float:
        """Power at a noncentrality |excess @ slopes|^2 / deviation^2, less the one asked for."""
        return float(stats.ncf.sf(limit, 2, free, shift)) - power

    if not beyond(1e-9) < 0 < beyond(1e4):
        raise InputError(
            f"no slope is found with power {power:g} at level {alpha:g} of {len(excess)} graphs; "
            "choose a power further above the level, a larger level, or more graphs"
        )
    needed = optimize.brentq(beyond, 1e-9, 1e4)
    c, length = (deviation * np.sqrt(needed) / np.linalg.norm(excess, axis=0)).tolist()
    return c, length
