"""Random walks: how unpredictable a message's way through the graph is."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("entropy_rate")
def entropy_rate(batch: GraphBatch) -> Array:
    """(B,): entropy rate of a random walk, sum_v d_v / (2 E) log2 d_v, in bits a step.

    The walk goes to each neighbour with equal chance and is at v with chance d_v / (2 E) in the
    long run. NaN without an edge.

    Raises:
        InputError: directed graphs.

    Source: Cover and Thomas, Elements of Information Theory, section 4.3.
    """
    batch.refuse_directed("the entropy rate of a random walk")
    degree = batch.degrees.astype(np.float64)
    bits = degree * np.log2(np.maximum(degree, 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return bits.sum(axis=1) / degree.sum(axis=1)
