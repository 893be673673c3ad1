"""Core and periphery: a dense core that everything else links to."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("core_periphery")
def core_periphery(batch: GraphBatch) -> Array:
    """(B,): how closely the graph is one whose core links to all nodes and whose rest does not.

    The largest Pearson correlation, over pairs of nodes, of the adjacency with the pattern "one of
    the two is in the core"; cores are the nodes of degree k or more, for every k. 1 for a star, 0
    where all degrees are equal. Another set of nodes may correlate more: finding the best is as
    hard as finding a smallest vertex cover.

    Raises:
        InputError: directed graphs.

    Source: Borgatti and Everett, Models of core/periphery structures, Social Networks 2000. Cores
    of the highest degrees are the best where links between core and rest do not count: Lip,
    arXiv 1102.5511.
    """
    batch.refuse_directed("a core-periphery score")
    batch.check_pairs("the core-periphery score", 2)
    return np.array(
        [_score(a, d) for a, d in zip(batch.adjacency, batch.degrees, strict=True)],
        dtype=np.float64,
    )


def _score(linked: np.ndarray, degree: np.ndarray) -> float:
    num_nodes = len(degree)
    pairs, edges = num_nodes * (num_nodes - 1) / 2, degree.sum() / 2
    best = 0.0
    for least in np.unique(degree)[1:]:
        outside = degree < least
        apart = outside.sum()
        ideal = pairs - apart * (apart - 1) / 2  # pairs with an end in the core
        both = edges - linked[np.ix_(outside, outside)].sum() / 2
        spread = edges * (pairs - edges) * ideal * (pairs - ideal)
        if spread > 0:
            best = max(best, (pairs * both - edges * ideal) / np.sqrt(spread))
    return float(best)
