"""The hypercube: nodes are bit strings, neighbours differ in one bit."""

from __future__ import annotations

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("hypercube")
def hypercube(num_nodes: int) -> RelationalGraph:
    """N = 2^d nodes of degree d: node i is linked to i with any one of its d bits flipped.

    Raises:
        InputError: a number of nodes that is not a power of two.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.hypercube(16)
        >>> graph.degrees.max(), graph.clustering_coefficient
        (np.int64(4), 0.0)
    """
    num_nodes = check_num_nodes(num_nodes)
    dimensions = num_nodes.bit_length() - 1
    if num_nodes != 1 << dimensions:
        raise InputError(
            f"the number of nodes of a hypercube is a power of two, {num_nodes} was given; "
            f"use {1 << dimensions} or {2 << dimensions}"
        )
    check_edges("hypercube", num_nodes, num_nodes * dimensions // 2)
    node = np.arange(num_nodes)
    edges = [np.stack([node, node ^ (1 << d)]) for d in range(dimensions)]
    return RelationalGraph(num_nodes, np.concatenate(edges, axis=1))
