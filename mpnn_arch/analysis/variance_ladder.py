"""What each kind of knowledge of a graph adds: density, then the degrees, then C and L."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS

from mpnn_arch.analysis.density_curve import density_features, plane_features, with_density
from mpnn_arch.analysis.graph_rows import rebuild
from mpnn_arch.analysis.nested_regressions import (
    gain_interval,
    independent_columns,
    p_of_more,
    resampled_r2,
)
from mpnn_arch.analysis.per_graph import is_constant, per_graph, without_baseline
from mpnn_arch.checks import check_whole, counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import measure
from mpnn_arch.graphs.given import GivenGraph, as_named_graphs

DEGREES = ("degree_std", "degree_min", "degree_max")


def variance_ladder(
    table: pd.DataFrame,
    graphs: Mapping[str, GivenGraph] | None = None,
    draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of the variance between graphs, explained step by step by nested regressions.

    Density enters as a cubic of its logarithm; the degrees by their deviation, smallest and
    largest; C and L as a second-degree surface.

    Args:
        table: a tidy table; the baseline is left out.
        graphs: those of the table by name, if they are at hand; else they are made.
        draws: resampled sets of graphs for the intervals.
        seed: of them.

    Returns:
        A row a step: ``step``, ``r2`` with all steps so far, ``added`` by this one with
        ``added_low`` and ``added_high`` (95 % over resampled graphs, less what any features would
        add by chance: below 0 where nothing may be added), ``p_value`` (F-test of nothing added, in
        the regression) and ``graphs``.

    Raises:
        InputError: fewer than 20 graphs that can be made, no variance, or graphs of one density.

    Example:
        >>> from mpnn_arch.analysis import load_results, variance_ladder
        >>> variance_ladder(load_results("results.csv"), draws=20)["step"].tolist()
        ['density', 'degrees', 'C and L']
    """
    draws, seed = check_whole("draws", draws, 1, 10**6), check_whole("seed", seed, 0)
    rows = with_density(per_graph(without_baseline(table)))
    by_name = rebuild(rows)[0] if graphs is None else as_named_graphs(graphs)
    rows = rows[rows["graph"].isin(list(by_name))].reset_index(drop=True)
    errors = rows["mean"].to_numpy(dtype=np.float64)
    if len(rows) < 20 or is_constant(errors):
        raise InputError(
            "20 graphs or more that can be made and differ in error are needed to share out their "
            f"variance, not {counted(len(rows), 'graph')} with "
            f"{counted(len(np.unique(errors.round(9))), 'error')}; give more"
        )
    if rows["density"].round(9).nunique() < 2:
        raise InputError(
            "all graphs have one density, so the ladder has no first step; give graphs of several"
        )
    degrees = measure([by_name[name] for name in rows["graph"]], DEGREES).to_numpy(dtype=np.float64)
    degrees = degrees[:, np.ptp(degrees, axis=0) > 0]
    steps = {
        "density": density_features(rows),
        "degrees": (degrees - degrees.mean(axis=0)) / degrees.std(axis=0),
        "C and L": plane_features(rows),
    }
    sets = [np.ones((len(errors), 1))]
    for features in steps.values():
        sets.append(independent_columns(np.hstack([sets[-1], features])))
    fits = [OLS(errors, features).fit() for features in sets]
    random = np.random.default_rng(seed)
    sizes = [features.shape[1] for features in sets]
    resampled = np.diff(resampled_r2(sets[-1], sizes, errors, draws, random), axis=1)
    r2 = np.array([0.0, *(fit.rsquared for fit in fits[1:])])
    added = np.diff(r2)
    ends = [gain_interval(*step) for step in zip(added, resampled.T, strict=True)]
    low, high = zip(*ends, strict=True)
    return pd.DataFrame(
        {
            "step": list(steps),
            "r2": r2[1:],
            "added": added,
            "added_low": low,
            "added_high": high,
            "p_value": [p_of_more(more, less) for less, more in pairwise(fits)],
            "graphs": len(errors),
        }
    )
