"""The best of many is partly luck: choose on some training seeds, report on the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mpnn_arch.analysis.density_curve import density_features, plane_features
from mpnn_arch.analysis.nested_regressions import independent_columns
from mpnn_arch.analysis.per_graph import Array, error_matrix, run_variance
from mpnn_arch.analysis.results_table import is_baseline
from mpnn_arch.checks import counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

# Graphs from which on errors are expected by a regression on nine features.
_ENOUGH = 20


@dataclass(frozen=True)
class SelectionBias:
    """What the best graph's mean error owes to being chosen by it.

    Args:
        graphs: how many it was the best of.
        best: its mean error over all seeds, as the paper reports it.
        splits: a row for every number of seeds chosen on: ``chosen_on``, ``splits`` (ways to choose
            them), ``apparent`` (mean error of the best on the seeds it was chosen by),
            ``held_out`` (on the other seeds), ``bias`` (held out less apparent) and ``rank``
            (median of the chosen graph on the other seeds, 1 is the best).
        expected: what the best's error would be if trained again: its mean, moved towards what
            the other graphs let expect at its C, L and density, by the share of the variance about
            that which is luck. Fewer than 20 graphs, and the complete graph where it is the best,
            say less: then towards the mean of the others.
    """

    graphs: int
    best: float
    splits: pd.DataFrame
    expected: float


def selection_bias(table: pd.DataFrame) -> SelectionBias:
    """The bias of "the best of all graphs", by every split of the training seeds.

    Raises:
        InputError: fewer than two seeds, or than two graphs with errors for all of them.

    Source: the shrinkage is that of James and Stein towards a regression; Efron and Morris, JASA
    1973; Fay and Herriot, JASA 1979. Towards one mean of all, it would take the bottom of a wide
    bowl, where many graphs are about as good as the best, for far better than it is.

    Example:
        >>> from mpnn_arch.analysis import load_results, selection_bias
        >>> bias = selection_bias(load_results("results.csv"))
        >>> bias.expected > bias.best  # trained again, the best graph is worse
        True
    """
    described, errors = error_matrix(table)
    graphs, seeds = errors.shape
    if graphs < 2 or seeds < 2:
        raise InputError(
            f"{counted(graphs, 'graph')} with errors for all of "
            f"{counted(seeds, 'training seed')} are too few; splitting the seeds "
            "takes two graphs and two seeds or more"
        )
    rows = []
    for count in range(1, seeds):
        outcomes = []
        for chosen in combinations(range(seeds), count):
            on = errors[:, chosen].mean(axis=1)
            others = np.delete(errors, chosen, axis=1).mean(axis=1)
            best = int(on.argmin())
            outcomes.append((on[best], others[best], 1 + int((others < others[best]).sum())))
        apparent, held_out, _ = np.mean(outcomes, axis=0)
        rank = float(np.median([row[2] for row in outcomes]))
        rows.append((count, len(outcomes), apparent, held_out, held_out - apparent, rank))
    columns = ["chosen_on", "splits", "apparent", "held_out", "bias", "rank"]
    means = errors.mean(axis=1)
    # The complete graph lies beyond all others, on no surface through them.
    dense = is_baseline(described).to_numpy(dtype=bool)
    among = np.full(graphs, True) if dense[means.argmin()] else ~dense
    features = _features(described[among], of_plane=not dense[means.argmin()])
    expected = _shrunk(means[among], run_variance(errors) / seeds, features)
    return SelectionBias(graphs, float(means.min()), pd.DataFrame(rows, columns=columns), expected)


def _features(graphs: pd.DataFrame, of_plane: bool) -> Array:
    """(graphs, k): a constant, and if asked and with graphs enough C, L and density."""
    ones = np.ones((len(graphs), 1))
    if not of_plane or len(graphs) < _ENOUGH:
        return ones
    known = np.isfinite(graphs[list(C_AND_L)].to_numpy(dtype=np.float64)).all()
    if not known:
        return ones
    parts = [ones, plane_features(graphs)]
    if (graphs["density"] > 0).all():
        parts.append(density_features(graphs))
    return independent_columns(np.hstack(parts))


def _shrunk(means: Array, luck: float, features: Array) -> float:
    """The lowest mean, moved towards what the other graphs let expect of that graph.

    Args:
        means: (graphs,) mean errors.
        luck: variance of a mean that is chance.
        features: (graphs, k) by which the means are expected.
    """
    basis = np.linalg.qr(features)[0]
    residual = means - basis @ (basis.T @ means)
    best = int(means.argmin())
    # By a regression without the graph itself, on whose fit its luck would weigh.
    away = residual[best] / max(1.0 - (basis[best] ** 2).sum(), 1e-9)
    free = len(means) - basis.shape[1]
    spread = (residual**2).sum() / free if free else 0.0
    keep = max(0.0, 1.0 - luck / spread) if spread > 0 else 0.0
    return float(means[best] - (1.0 - keep) * away)
