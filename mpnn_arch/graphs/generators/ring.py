"""The ring lattice: every node is linked to its nearest neighbours on a circle."""

from __future__ import annotations

import numpy as np

from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("ring")
def ring(num_nodes: int, degree: int = 2) -> RelationalGraph:
    """Node i is linked to i +- 1, ..., i +- degree / 2; if degree is odd, also to the one opposite.

    Args:
        num_nodes: N.
        degree: k, the same for every node; an odd k needs an even N.

    Raises:
        InputError: degree outside [2, N - 1] (1 for two nodes), or degree and N both odd.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.ring(num_nodes=8, degree=4)
        >>> graph.num_edges, graph.clustering_coefficient
        (16, 0.5)
    """
    num_nodes = check_num_nodes(num_nodes)
    degree = check_whole("degree", degree, min(2, num_nodes - 1), num_nodes - 1)
    if degree % 2 and num_nodes % 2:
        raise InputError(
            f"a lattice of odd degree {degree} needs an even number of nodes, {num_nodes} were "
            "given; add a node or change the degree by one"
        )
    check_edges("ring", num_nodes, num_nodes * degree // 2)
    node = np.arange(num_nodes)
    steps = [*range(1, degree // 2 + 1), *([num_nodes // 2] if degree % 2 else [])]
    edges = np.concatenate([np.stack([node, (node + s) % num_nodes]) for s in steps], axis=1)
    return RelationalGraph(num_nodes, edges)
