"""Barabasi-Albert: graphs grown by preferential attachment."""

from __future__ import annotations

from random import Random
from typing import Any

from mpnn_arch.checks import check_whole
from mpnn_arch.graphs.generators.connected import connected
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_num_nodes, check_size
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("ba")
def ba(num_nodes: int, edges_per_node: int, seed: int = 0) -> RelationalGraph:
    """A star of m + 1 nodes; each further node gets m edges, to nodes drawn by their degree.

    It has m (N - m) edges.

    Args:
        num_nodes: N.
        edges_per_node: m, in [1, N - 1].
        seed: of the random stream.

    Raises:
        InputError: a value outside its range.

    Source: Barabasi and Albert, Emergence of scaling in random networks, Science 1999.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.ba(num_nodes=16, edges_per_node=2, seed=0)
        >>> graph.num_edges, int(graph.degrees.max())
        (28, 10)
    """
    num_nodes = check_num_nodes(num_nodes)
    edges_per_node = check_whole("edges_per_node", edges_per_node, 1, num_nodes - 1)
    check_size("ba", num_nodes, edges_per_node * (num_nodes - edges_per_node))

    def draw(stream: Random) -> Any:
        import networkx as nx

        return nx.barabasi_albert_graph(num_nodes, edges_per_node, seed=stream)

    return connected(draw, seed, f"ba of {num_nodes} nodes and {edges_per_node} edges per node")
