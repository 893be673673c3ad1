"""Erdos-Renyi: a given number of edges, placed uniformly at random."""

from __future__ import annotations

from random import Random
from typing import Any

from mpnn_arch.checks import check_whole
from mpnn_arch.graphs.generators.connected import connected
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_isolated, check_num_nodes, check_size
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("er")
def er(num_nodes: int, num_edges: int, seed: int = 0) -> RelationalGraph:
    """Drawn uniformly from the connected graphs of ``num_nodes`` nodes and ``num_edges`` edges.

    Args:
        num_nodes: N.
        num_edges: in [N - 1, N (N - 1) / 2].
        seed: of the random stream.

    Raises:
        InputError: an impossible number of edges, or no connected graph in 100 tries.

    Source: Erdos and Renyi, On the evolution of random graphs, 1960.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.er(num_nodes=16, num_edges=40, seed=0).num_edges
        40
    """
    num_nodes, num_edges = check_er(num_nodes, num_edges)

    def draw(stream: Random) -> Any:
        import networkx as nx

        return nx.gnm_random_graph(num_nodes, num_edges, seed=stream)

    return connected(draw, seed, f"er of {num_nodes} nodes and {num_edges} edges")


def check_er(num_nodes: Any, num_edges: Any) -> tuple[int, int]:
    """The two parameters as integers.

    Raises:
        InputError: an impossible number of edges, more than there is memory for, or so few that
            no draw would be connected.
    """
    num_nodes = check_num_nodes(num_nodes)
    num_edges = check_whole("num_edges", num_edges, num_nodes - 1, num_nodes * (num_nodes - 1) // 2)
    check_size("er", num_nodes, num_edges)
    chosen = num_edges / (num_nodes * (num_nodes - 1) / 2)
    check_isolated(
        f"er of {num_nodes:,} nodes and {num_edges:,} edges",
        num_nodes * (1 - chosen) ** (num_nodes - 1),
    )
    return num_nodes, num_edges
