"""Random regular graphs that are nearly Ramanujan: expanders."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.connected import connected
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_num_nodes, check_size
from mpnn_arch.graphs.relational_graph import RelationalGraph

# How far above the Ramanujan bound 2 sqrt(d - 1) the second eigenvalue may lie.
SLACK = 0.2
# Nodes of the largest graph: its eigenvalues take 10 minutes on one core.
LARGEST = 10_000


@GENERATORS.register("regular")
def regular(num_nodes: int, degree: int, seed: int = 0) -> RelationalGraph:
    """A random graph in which every node has ``degree`` neighbours, with good expansion.

    Its second largest adjacency eigenvalue is at most 2 sqrt(degree - 1) + 0.2. In the limit of
    many nodes nearly all random regular graphs meet the bound, with however small a slack
    (Friedman 2008); those that do not are drawn again.

    Args:
        num_nodes: N.
        degree: d, in [2, N - 1]; N d is even.
        seed: of the random stream.

    Raises:
        InputError: a value outside its range, N and d both odd, or no such graph in 100 tries.

    Source: Friedman, A proof of Alon's second eigenvalue conjecture, 2008.

    Example:
        >>> from mpnn_arch import graphs
        >>> set(graphs.regular(num_nodes=16, degree=3, seed=0).degrees.tolist())
        {3}
    """
    num_nodes = check_num_nodes(num_nodes, least=3)
    degree = check_whole("degree", degree, 2, num_nodes - 1)
    if degree * num_nodes % 2:
        raise InputError(
            f"no graph of {num_nodes} nodes has the odd degree {degree} everywhere; "
            "change either by one"
        )
    check_size("regular", num_nodes, num_nodes * min(degree, num_nodes - 1 - degree) / 2)
    if num_nodes > LARGEST:
        raise InputError(
            f"the second eigenvalue of a regular graph is computed for at most {LARGEST:,} nodes, "
            f"{num_nodes:,} were given; use ring for a regular graph without that check"
        )

    def draw(stream: Random) -> Any:
        import networkx as nx

        # Pairing half-edges rarely succeeds for dense graphs; their complement is sparse.
        other = num_nodes - 1 - degree
        if other < degree:
            drawn = nx.complement(nx.random_regular_graph(other, num_nodes, seed=stream))
        else:
            drawn = nx.random_regular_graph(degree, num_nodes, seed=stream)
        second = np.linalg.eigvalsh(nx.to_numpy_array(drawn))[-2]
        return drawn if second <= 2 * (degree - 1) ** 0.5 + SLACK else None

    what = f"regular of {num_nodes} nodes and degree {degree}"
    return connected(draw, seed, what, most_draws=200 * num_nodes * degree)
