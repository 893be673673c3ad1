"""A batch of graphs of one size; quantities that several measures need are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset
from mpnn_arch.graphs.c_and_l import Array, check_reachable
from mpnn_arch.graphs.given import GivenGraph, as_graphs
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Array", "GraphBatch"]


class GraphBatch:
    """B graphs of N nodes, all directed or all undirected, with self-loops removed.

    Measures ignore self-loops, as networkx does: a self-loop passes a node its own features and
    is not a link between nodes.

    Args:
        words: (B, N, W) adjacency rows (row = target) as 64-bit words, see ``graphs.bitset``.
        directed: whether some graph has an edge without its reverse.
        reachable_only: whether measures of distance leave out pairs that no path joins, instead
            of raising an error for a graph with such pairs.

    Example:
        >>> from mpnn_arch import graphs
        >>> batch = graphs.GraphBatch.of([graphs.ring(8, 4), graphs.complete(8)])
        >>> batch.degrees
        array([[4, 4, 4, 4, 4, 4, 4, 4],
               [7, 7, 7, 7, 7, 7, 7, 7]])
    """

    _graphs: tuple[RelationalGraph, ...] = ()

    def __init__(
        self, words: bitset.Words, *, directed: bool = False, reachable_only: bool = False
    ) -> None:
        if not isinstance(words, np.ndarray) or words.dtype != np.uint64 or words.ndim != 3:
            raise InputError(
                f"a batch has (B, N, W) words of 64 bits, not {shown(words)}; use GraphBatch.of "
                "for a list of graphs"
            )
        self._num_nodes = int(words.shape[1])
        self.words = bitset.without_loops(words)
        self.directed = directed
        self.reachable_only = reachable_only

    @classmethod
    def of(
        cls, graphs: GivenGraph | Sequence[GivenGraph], *, reachable_only: bool = False
    ) -> GraphBatch:
        """The batch of these graphs, given as objects or specifications.

        Raises:
            InputError: no graph, or graphs of different sizes.
        """
        graphs = as_graphs(graphs)
        nodes = {graph.num_nodes for graph in graphs}
        if len(nodes) != 1:
            raise InputError(
                f"a batch holds graphs of one size, these have {sorted(nodes)} nodes; "
                "measure each size separately"
            )
        batch = cls.__new__(cls)
        batch._graphs, batch._num_nodes = tuple(graphs), nodes.pop()
        batch.directed = any(graph.is_directed for graph in graphs)
        batch.reachable_only = reachable_only
        return batch

    def __len__(self) -> int:
        return len(self._graphs) or self.words.shape[0]

    @property
    def num_nodes(self) -> int:
        """N."""
        return self._num_nodes

    @cached_property
    def words(self) -> bitset.Words:
        """(B, N, W) adjacency rows, no self-loops.

        Raises:
            InputError: more words than there is memory for, as for a million nodes.
        """
        rows = bitset.of_edges(self.num_nodes, [graph.edges for graph in self._graphs])
        return bitset.without_loops(rows)

    @cached_property
    def adjacency(self) -> npt.NDArray[np.bool_]:
        """(B, N, N), row = target, column = source, no self-loops.

        Raises:
            InputError: more entries than there is memory for.
        """
        self.check_pairs("the adjacency matrix", 1)
        return bitset.unpack(self.words, self.num_nodes)

    @cached_property
    def reversed_words(self) -> bitset.Words:
        """(B, N, W), the words of the graphs with every edge reversed."""
        return bitset.transpose(self.words) if self.directed else self.words

    @cached_property
    def degrees(self) -> bitset.Counts:
        """(B, N) degree of each node (in-degree, if directed), self-loops left out."""
        if not self._graphs:
            return bitset.sizes(self.words)
        return np.stack([graph.degrees for graph in self._graphs])

    @cached_property
    def distances(self) -> npt.NDArray[np.int32]:
        """(B, N, N) length of the shortest path from node j to node i, -1 where there is none."""
        out_of = self.reversed_words if self.directed else None
        return bitset.distances(self.words, out_of)

    @cached_property
    def communities(self) -> list[list[set[int]]]:
        """For each graph the communities that Louvain finds (networkx, seed 0).

        Source: Blondel, Guillaume, Lambiotte, Lefebvre, Fast unfolding of communities, 2008.
        """
        import networkx as nx

        return [nx.community.louvain_communities(drawn, seed=0) for drawn in self.drawn]

    @cached_property
    def drawn(self) -> list[nx.Graph]:
        """Each graph as networkx has it, directed if the batch is."""
        import networkx as nx

        drawn = []
        for adjacency in self.adjacency:
            graph = nx.DiGraph() if self.directed else nx.Graph()
            graph.add_nodes_from(range(self.num_nodes))
            ends = np.nonzero(adjacency.T if self.directed else np.triu(adjacency))
            graph.add_edges_from(zip(*(nodes.tolist() for nodes in ends), strict=True))
            drawn.append(graph)
        return drawn

    def check_pairs(self, what: str, bytes_per_pair: float) -> None:
        """Raise if there is no memory for what needs an entry for each pair of nodes.

        Args:
            what: needs the entries, for the message.
            bytes_per_pair: of all its (N, N) arrays together, for one graph.

        Raises:
            InputError: there is not.
        """
        bitset.check_pairs(self.num_nodes, what, bytes_per_pair * len(self))

    def refuse_unreachable(self, joined: bitset.Counts, what: str) -> None:
        """Raise if a graph has unreachable pairs, unless those are left out.

        Args:
            joined: (B,) ordered pairs that a path joins.
            what: the measure, for the error message.

        Raises:
            InputError: a graph of one node, without edges, or with unreachable pairs.
        """
        check_reachable(joined, self.num_nodes, what, self.reachable_only)

    def refuse_directed(self, what: str) -> None:
        """Raise if the graphs are directed.

        Raises:
            InputError: they are.
        """
        if self.directed:
            raise InputError(
                f"{what} is defined for undirected graphs, one of these is directed; symmetrise it"
            )
