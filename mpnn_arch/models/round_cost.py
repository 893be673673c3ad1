"""The cost of a round, as a formula of its graph and its two widths."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mpnn_arch.checks import check_choice
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.given import GivenGraph, as_graph
from mpnn_arch.partition import Order


class RoundCost:
    """Counts the multiply-adds of rounds on one graph, each in constant time.

    A linear round costs the sum over its edges u -> v of size_out(v) * size_in(u). Every share is
    either floor(m / n) or one more, and the nodes with the larger share are the first (m mod n) of
    an order that does not depend on m. So the sum needs only the number of edges at larger shares,
    read from one table: ``larger[i][j]`` counts the edges into the first i nodes of that order
    from the first j.

    Args:
        graph: the relational graph, or its specification.
        order: which nodes hold the larger shares, see :class:`~mpnn_arch.ChannelPartition`.
    """

    def __init__(self, graph: GivenGraph, order: Order = "published") -> None:
        graph = as_graph(graph)
        self.num_nodes = n = graph.num_nodes
        by_size = _larger_first(n, order)
        table = np.zeros((n + 1, n + 1), dtype=np.int64)
        table[1:, 1:] = graph.adjacency[np.ix_(by_size, by_size)].cumsum(0).cumsum(1)
        # Python ints: their arithmetic is exact, and faster than that of numpy scalars.
        self._larger: list[list[int]] = table.tolist()

    def multiply_adds(self, in_channels: int, out_channels: int) -> int:
        """Multiply-adds of a linear round, or of a conv round per pixel and kernel entry."""
        n, larger = self.num_nodes, self._larger
        size_in, rest_in = divmod(in_channels, n)
        size_out, rest_out = divmod(out_channels, n)
        # Edges into larger shares, out of larger shares, both, and all.
        into, out_of = larger[rest_out][n], larger[n][rest_in]
        both, edges = larger[rest_out][rest_in], larger[n][n]
        return edges * size_in * size_out + into * size_in + out_of * size_out + both


@lru_cache(maxsize=64)
def _larger_first(num_nodes: int, order: Order) -> np.ndarray:
    """(N,) the nodes in the order in which they get the larger shares."""
    if order == "first":
        return np.arange(num_nodes)
    if order == "published":
        # The published stream shuffles the sorted list of sizes; on 0 .. n-1 the same shuffle
        # gives the place in the list that each node's share came from.
        return np.argsort(np.random.RandomState(1).permutation(num_nodes))
    raise InputError(f"there is no partition order {order!r}; choose 'first' or 'published'")


def round_cost(graph: GivenGraph, order: Order = "published") -> RoundCost:
    """The cached :class:`RoundCost` of ``graph``."""
    check_choice("partition order", order, ("first", "published"))
    return _cached(as_graph(graph), order)


@lru_cache(maxsize=256)
def _cached(graph: RelationalGraph, order: Order) -> RoundCost:
    return RoundCost(graph, order)
