"""Path lengths: the number of rounds a message needs from one node to another."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs import bitset, c_and_l
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("average_path_length")
def average_path_length(batch: GraphBatch) -> Array:
    """(B,): L, the mean length of the shortest paths over all ordered pairs of nodes.

    Raises:
        InputError: a graph of one node, or one with unreachable pairs, unless those are left out.

    Source: Watts and Strogatz, Nature 1998; You, Leskovec, He, Xie, ICML 2020, section 3.2.

    Example:
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.graphs.measures import average_path_length
        >>> average_path_length(graphs.GraphBatch.of([graphs.ring(5, 2), graphs.complete(5)]))
        array([1.5, 1. ])
    """
    return c_and_l.average_path_length(
        batch.words, batch.directed, reachable_only=batch.reachable_only
    )


@MEASURES.register("diameter")
def diameter(batch: GraphBatch) -> Array:
    """(B,): the longest of the shortest paths.

    Raises:
        InputError: as :func:`average_path_length`.
    """
    batch.refuse_unreachable((batch.distances > 0).sum(axis=(1, 2)), "diameter")
    return batch.distances.max(axis=(1, 2)).astype(np.float64)


@MEASURES.register("global_efficiency")
def global_efficiency(batch: GraphBatch) -> Array:
    """(B,): mean of 1 / distance over all ordered pairs, 0 where no path joins them.

    Source: Latora and Marchiori, Physical Review Letters 2001.
    """
    num_nodes = batch.num_nodes
    out_of = batch.reversed_words if batch.directed else None
    total = bitset.inverse_distance_sums(batch.words, out_of)
    return total / max(1, num_nodes * (num_nodes - 1))


@MEASURES.register("local_efficiency")
def local_efficiency(batch: GraphBatch) -> Array:
    """(B,): mean over nodes of the global efficiency among the node's neighbours alone.

    Raises:
        InputError: directed graphs.

    Source: Latora and Marchiori, Physical Review Letters 2001.
    """
    batch.refuse_directed("local efficiency")
    total = np.zeros(len(batch))
    for node in range(batch.num_nodes):
        count, found = _among_neighbours(batch, node)
        pairs = count * (count - 1)
        total += np.divide(found, pairs, out=np.zeros(len(batch)), where=pairs > 0)
    return total / batch.num_nodes


def _among_neighbours(batch: GraphBatch, node: int) -> tuple[bitset.Counts, Array]:
    """(B,) neighbours of a node, and the sums of 1 / distance in the graphs that they induce."""
    near = batch.adjacency[:, node, :]
    if batch.num_nodes >= bitset.LARGE:  # where most rows are not those of neighbours
        found = np.zeros(len(batch))
        for place in np.flatnonzero(near.any(axis=1)):
            nodes = np.flatnonzero(near[place])
            among = bitset.pack(batch.adjacency[place][np.ix_(nodes, nodes)])
            found[place] = bitset.inverse_distance_sums(among[None])[0]
        return near.sum(axis=1), found
    among = np.where(near[:, :, None], batch.words & batch.words[:, None, node], np.uint64(0))
    return near.sum(axis=1), bitset.inverse_distance_sums(among)
