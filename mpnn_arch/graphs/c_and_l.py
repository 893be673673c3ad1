"""C and L, the two measures that span the paper's design space, exact to the last bit.

They are computed from packed adjacency rows (:mod:`mpnn_arch.graphs.bitset`), of one graph or of
millions. Self-loops must be left out: a round's self-loop is the node's own memory and no link
between nodes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset

Array = npt.NDArray[np.float64]


def local_clustering(words: bitset.Words, directed: bool = False) -> Array:
    """(B, N, W) to (B, N): every node's clustering coefficient, 0 without a pair of neighbours.

    Undirected: links among a node's k neighbours over k (k - 1) / 2. Directed: the directed
    triangles through the node, each path counted in either direction, over those that its
    in- and out-links could close (Fagiolo 2007), as in ``networkx.clustering``.
    """
    if not directed:
        closed, degrees = bitset.triangles(words), bitset.sizes(words)
        possible = degrees * (degrees - 1)
    else:
        bitset.check_pairs(words.shape[1], "directed clustering", 32 * len(words))
        linked = bitset.unpack(words, words.shape[1]).astype(np.float64)  # below 2**53: exact
        either = linked + linked.transpose(0, 2, 1)
        closed = np.einsum("bij,bji->bi", either @ either, either).astype(np.int64)
        degrees = either.sum(axis=2).astype(np.int64)
        mutual = (either == 2).sum(axis=2)
        possible = 2 * (degrees * (degrees - 1) - 2 * mutual)
    return np.divide(closed, possible, out=np.zeros(closed.shape), where=possible > 0)


def clustering_coefficient(words: bitset.Words, directed: bool = False) -> Array:
    """(B, N, W) to (B,): C, the mean of :func:`local_clustering` over the nodes.

    Equal to ``networkx.average_clustering`` to the last bit.

    Source: Watts and Strogatz, Nature 1998; You, Leskovec, He, Xie, ICML 2020, section 3.2.
    """
    return mean_in_order(local_clustering(words, directed))


def average_path_length(
    words: bitset.Words, directed: bool = False, *, reachable_only: bool = False
) -> Array:
    """(B, N, W) to (B,): L, the mean length of the shortest paths over all ordered pairs.

    Equal to ``networkx.average_shortest_path_length`` to the last bit, directed paths included.

    Args:
        words: packed adjacency rows, row = target.
        directed: whether some edge lacks its reverse.
        reachable_only: leave out pairs that no path joins instead of refusing them.

    Raises:
        InputError: a graph of one node, without edges, or with unreachable pairs.

    Source: Watts and Strogatz, Nature 1998; You, Leskovec, He, Xie, ICML 2020, section 3.2.
    """
    total, joined = bitset.distance_sums(words, bitset.transpose(words) if directed else None)
    check_reachable(joined, words.shape[1], "average path length", reachable_only)
    return total / joined


def check_reachable(
    joined: bitset.Counts, num_nodes: int, measure: str, reachable_only: bool = False
) -> None:
    """Refuse graphs with pairs of nodes that no path joins, unless those are left out.

    Args:
        joined: (B,) ordered pairs that a path joins.
        num_nodes: N.
        measure: its name, for the message.
        reachable_only: whether unreachable pairs are left out.

    Raises:
        InputError: a graph of one node, without edges, or with unreachable pairs.
    """
    if num_nodes < 2:
        raise InputError(f"a graph of 1 node has no pairs, so no {measure}; use 2 nodes or more")
    if not joined.all():
        raise InputError(f"a graph without edges joins no pair of nodes, so no {measure}; add some")
    pairs = num_nodes * (num_nodes - 1)
    apart = np.flatnonzero(joined < pairs)
    if apart.size and not reachable_only:
        which = f"graph {apart[0]} of {len(joined)}" if len(joined) > 1 else "the graph"
        raise InputError(
            f"{which} has {pairs - joined[apart[0]]} unreachable pairs of nodes, so no {measure}; "
            "leave them out by reachable_only=True, on the command line by --reachable-only"
        )


def mean_in_order(values: Array) -> Array:
    """(B, N) to (B,): the mean of each row, added from left to right as networkx adds.

    Python's ``sum`` is used for it: numpy adds pairwise, which rounds elsewhere in the last bit,
    and newer Pythons compensate.
    """
    num_nodes = values.shape[1]
    return np.array([sum(row) / num_nodes for row in values.tolist()], dtype=np.float64)
