"""The best of many is partly luck: choose on some training seeds, report on the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mpnn_arch.analysis.per_graph import error_matrix, run_variance
from mpnn_arch.checks import counted
from mpnn_arch.errors import InputError


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
        expected: what the best's error would be if trained again, by shrinking its mean towards
            that of all graphs by the share of variance that is luck.
    """

    graphs: int
    best: float
    splits: pd.DataFrame
    expected: float


def selection_bias(table: pd.DataFrame) -> SelectionBias:
    """The bias of "the best of all graphs", by every split of the training seeds.

    Raises:
        InputError: fewer than two seeds, or than two graphs with errors for all of them.

    Source: the shrinkage is that of James and Stein; Efron and Morris, JASA 1973.

    Example:
        >>> from mpnn_arch.analysis import load_results, selection_bias
        >>> bias = selection_bias(load_results("results.csv"))
        >>> bias.expected > bias.best  # trained again, the best graph is worse
        True
    """
    _, errors = error_matrix(table)
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
    luck = run_variance(errors) / seeds
    spread = means.var(ddof=1)
    keep = max(0.0, 1 - luck / spread) if spread > 0 else 0.0
    expected = means.mean() + keep * (means.min() - means.mean())
    return SelectionBias(
        graphs, float(means.min()), pd.DataFrame(rows, columns=columns), float(expected)
    )
