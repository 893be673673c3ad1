"""The part of a study that is complete: every graph with every training seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]


def complete_part(there: Flags) -> tuple[Flags, Flags]:
    """Which graphs and which training seeds to keep so that every one has every other.

    Of the seeds that most graphs have, the first 1, 2, ... are tried, two or more where some graph
    has two; most runs win, and with as many runs most seeds. A study that is under way loses its
    last seed so, and not the graphs that do not have it yet.

    Args:
        there: whether a run is there, shape (graphs, seeds).
    """
    order = np.argsort(-there.sum(axis=0), kind="stable")
    together = np.cumprod(there[:, order], axis=1).sum(axis=0)  # graphs with the first k seeds
    runs = together * np.arange(1, there.shape[1] + 1)
    if (together[1:] > 0).any():
        runs[0] = 0
    count = len(runs) - int(np.argmax(runs[::-1])) if len(runs) else 0
    seeds = np.zeros(there.shape[1], dtype=bool)
    seeds[order[:count]] = True
    graphs: Flags = np.asarray(there[:, seeds].all(axis=1), dtype=bool)
    return graphs, seeds
