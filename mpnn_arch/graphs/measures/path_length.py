"""Average path length: how many rounds a message needs between two nodes."""

from __future__ import annotations

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("average_path_length")
def average_path_length(batch: GraphBatch, *, reachable_only: bool = False) -> Array:
    """(B,): L, the mean length of the shortest paths over all ordered pairs of nodes.

    Equal to ``networkx.average_shortest_path_length`` to the last bit, directed paths included.

    Args:
        batch: the graphs.
        reachable_only: take the mean over the pairs that a path joins, instead of refusing
            graphs in which some pair has none.

    Raises:
        InputError: a graph of one node, or one with unreachable pairs.

    Source: Watts and Strogatz, Nature 1998; You, Leskovec, He, Xie, ICML 2020, section 3.2.
    """
    num_nodes = batch.num_nodes
    if num_nodes < 2:
        raise InputError("a graph of 1 node has no pairs, so no average path length; use 2 or more")
    into, out_of = batch.words, batch.reversed_words if batch.directed else None
    total, joined = bitset.distance_sums(into, out_of)
    pairs = num_nodes * (num_nodes - 1)
    if not reachable_only:
        apart = np.flatnonzero(joined < pairs)
        if apart.size:
            which = f"graph {apart[0]} of {len(batch)}" if len(batch) > 1 else "the graph"
            raise InputError(
                f"{which} has {pairs - joined[apart[0]]} unreachable pairs of nodes, so no "
                "average path length; pass reachable_only=True to take the mean over the others"
            )
    if not joined.all():
        raise InputError("a graph without edges joins no pair of nodes; connect some")
    return total / joined
