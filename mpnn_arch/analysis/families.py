"""Structure or chance: errors of graphs against those of random graphs with their degrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mpnn_arch.analysis.per_graph import Array
from mpnn_arch.checks import LARGEST_COUNT, check_columns, check_range, check_whole
from mpnn_arch.errors import InputError

COLUMNS = ("family", "graph", "is_null", "train_seed", "error")


@dataclass(frozen=True)
class FamilyTest:
    """Tests on families: a graph and its nulls, all trained with the same seeds.

    Attributes:
        families, nulls, seeds: their numbers; nulls per family.
        difference: mean over families of the graph's error less that of its nulls, in points.
        difference_interval: 95 %, Student's t over families.
        difference_p: two-sided p-value of no difference.
        within_deviation: standard deviation between graphs of equal degrees, seeds' chance taken
            out; 0 where the estimate of the variance is negative.
        within_p: F-test that graphs of equal degrees have equal errors.
        seed_deviation: standard deviation of one training, after each family's seed means.
    """

    families: int
    nulls: int
    seeds: int
    difference: float
    difference_interval: tuple[float, float]
    difference_p: float
    within_deviation: float
    within_p: float
    seed_deviation: float


def compare_families(table: pd.DataFrame) -> FamilyTest:
    """Does structure beyond the degrees of the nodes change the error?

    With e_fgs the error of graph g of family f with seed s, the difference is tested on one number
    a family, so that nothing is assumed of the graphs within. The second test is an analysis of
    variance within families, graphs by seeds: sum (e_fg. - e_f..)^2 against what is left of
    e_fgs - e_fg. - e_f.s + e_f...

    Args:
        table: ``family``, ``graph``, ``is_null``, ``train_seed``, ``error`` in percent. Every
            family has one graph that is no null, as many nulls as the others, and every seed.

    Raises:
        InputError: missing columns or numbers, one family or one seed, or an incomplete design.

    Example:
        >>> import pandas as pd
        >>> from mpnn_arch.analysis import compare_families
        >>> rows = [
        ...     {
        ...         "family": family,
        ...         "graph": f"{family}-{graph}",
        ...         "is_null": graph > 0,
        ...         "train_seed": seed,
        ...         "error": 30 + family + (graph > 0) + 0.01 * (3 * family + graph + seed) % 0.07,
        ...     }
        ...     for family in range(4)
        ...     for graph in range(3)
        ...     for seed in range(3)
        ... ]
        >>> round(compare_families(pd.DataFrame(rows)).difference, 1)
        -1.0
    """
    errors = family_errors(table)[1]
    families, members, seeds = errors.shape
    graphs = errors.mean(axis=2)
    gap = graphs[:, 0] - graphs[:, 1:].mean(axis=1)
    student = stats.ttest_1samp(gap, 0.0)
    interval = student.confidence_interval(0.95)
    centre = graphs.mean(axis=1, keepdims=True)
    between = seeds * ((graphs - centre) ** 2).sum() / (families * (members - 1))
    left = errors - graphs[:, :, None] - errors.mean(axis=1, keepdims=True) + centre[:, :, None]
    free = families * (members - 1) * (seeds - 1)
    noise = (left**2).sum() / free
    if noise == 0:
        raise InputError("the seeds' errors leave no chance to test against; check the table")
    return FamilyTest(
        families,
        members - 1,
        seeds,
        float(gap.mean()),
        (float(interval.low), float(interval.high)),
        float(student.pvalue),
        float(np.sqrt(max(0.0, between - noise) / seeds)),
        float(stats.f.sf(between / noise, families * (members - 1), free)),
        float(np.sqrt(noise)),
    )


def family_errors(table: pd.DataFrame) -> tuple[pd.DataFrame, Array]:
    """The errors by family, graph and seed, the graph that is no null first.

    Args:
        table: as for :func:`compare_families`.

    Returns:
        A row per graph and a column per seed, indexed by ``family``, ``is_null`` and ``graph``; and
        the same as an array, shape (families, 1 + nulls, seeds).

    Raises:
        InputError: as :func:`compare_families`.
    """
    check_columns(table, COLUMNS, f"it takes {', '.join(COLUMNS)}")
    if not np.isfinite(table["error"].to_numpy(dtype=np.float64)).all():
        raise InputError("some errors are not finite; leave out the families they belong to")
    keys = ["family", "is_null", "graph"]
    if table.duplicated([*keys, "train_seed"]).any():
        raise InputError("a graph has two errors with one seed; give each training once")
    wide = table.pivot(index=keys, columns="train_seed", values="error").sort_index()
    sizes = wide.groupby("family").size()
    own = ~wide.index.get_level_values("is_null").to_numpy(dtype=bool)
    own_each = pd.Series(own, index=wide.index).groupby("family").sum()
    if wide.isna().any(axis=None) or sizes.nunique() != 1 or (own_each != 1).any():
        raise InputError(
            "every family needs one graph that is no null, as many nulls as the others and every "
            "seed; leave out the families that have not"
        )
    families, members, seeds = len(sizes), int(sizes.iloc[0]), wide.shape[1]
    if families < 2 or members < 2 or seeds < 2:
        raise InputError(
            f"{families} families of {members} graphs with {seeds} seeds were given; two or more "
            "of each are needed"
        )
    return wide, wide.to_numpy(dtype=np.float64).reshape(families, members, seeds)


def family_power(
    families: int,
    nulls: int,
    seeds: int,
    *,
    seed_deviation: float,
    within_deviation: float,
    difference: float,
    alpha: float = 0.05,
) -> tuple[float, float]:
    """Chances that :func:`compare_families` finds a true difference, and a true deviation.

    Errors are normal: ``within_deviation`` between graphs of equal degrees, ``seed_deviation`` of
    one training, in points; ``difference`` is the graphs' mean error less their nulls'.

    Returns:
        Power of the two-sided t-test of the difference (noncentral t), and of the F-test of the
        deviation (scaled F, exact where the difference is 0).

    Raises:
        InputError: a value out of its range.

    Example:
        >>> from mpnn_arch.analysis import family_power
        >>> power, _ = family_power(
        ...     50, 3, 5, seed_deviation=0.5, within_deviation=0.1, difference=0.2
        ... )
        >>> power > 0.5
        True
    """
    families = check_whole("families", families, 2, LARGEST_COUNT)
    nulls = check_whole("nulls", nulls, 1, LARGEST_COUNT)
    seeds = check_whole("seeds", seeds, 2, LARGEST_COUNT)
    alpha = check_range("alpha", alpha, 1e-12, 0.5)
    seed_deviation = check_range("seed_deviation", seed_deviation, 1e-12, 1e6)
    within_deviation = check_range("within_deviation", within_deviation, 0, 1e6)
    difference = check_range("difference", difference, -1e6, 1e6)
    one = within_deviation**2 + seed_deviation**2 / seeds
    shift = difference / np.sqrt(one * (1 + 1 / nulls) / families)
    limit = stats.t.isf(alpha / 2, families - 1)
    found = stats.nct.sf(limit, families - 1, shift) + stats.nct.cdf(-limit, families - 1, shift)
    free = families * nulls, families * nulls * (seeds - 1)
    scale = 1 + seeds * within_deviation**2 / seed_deviation**2
    return float(found), float(stats.f.sf(stats.f.isf(alpha, *free) / scale, *free))
