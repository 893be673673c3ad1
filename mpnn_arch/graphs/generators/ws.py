"""Watts-Strogatz: a ring lattice of even degree, edges rewired at random."""

from __future__ import annotations

from random import Random
from typing import Any

from mpnn_arch.checks import check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.connected import connected
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_num_nodes, check_size
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("ws")
def ws(num_nodes: int, degree: int, rewiring_probability: float, seed: int = 0) -> RelationalGraph:
    """Every edge of a ring lattice of ``degree`` moves one end with ``rewiring_probability``.

    Args:
        num_nodes: N.
        degree: k, even, in [2, N - 1].
        rewiring_probability: p, in [0, 1].
        seed: of the random stream.

    Raises:
        InputError: a value outside its range, an odd degree, or no connected graph in 100 tries.

    Source: Watts and Strogatz, Collective dynamics of small-world networks, Nature 1998.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.ws(num_nodes=16, degree=4, rewiring_probability=0.1, seed=0).num_edges
        32
    """
    num_nodes = check_num_nodes(num_nodes, least=3)
    degree = check_whole("degree", degree, 2, num_nodes - 1)
    p = check_range("rewiring_probability", rewiring_probability, 0, 1)
    if degree % 2:
        raise InputError(
            f"the degree of a ws graph is even, {degree} was given; change it by one, or use "
            "ws_flex, which takes any average degree"
        )
    check_size("ws", num_nodes, num_nodes * degree / 2)

    def draw(stream: Random) -> Any:
        import networkx as nx

        return nx.watts_strogatz_graph(num_nodes, degree, p, seed=stream)

    return connected(draw, seed, f"ws of {num_nodes} nodes, degree {degree} and p {p:g}")
