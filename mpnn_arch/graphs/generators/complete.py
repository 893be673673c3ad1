"""The complete graph: every node receives from every node, as in a dense layer."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("complete")
def complete(num_nodes: int) -> RelationalGraph:
    """All num_nodes (num_nodes - 1) / 2 edges.

    Raises:
        InputError: fewer than 2 nodes.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.complete(4).num_edges
        6
    """
    num_nodes = check_num_nodes(num_nodes)
    check_edges("complete", num_nodes, num_nodes * (num_nodes - 1) // 2)
    return RelationalGraph.from_adjacency(np.ones((num_nodes, num_nodes), dtype=bool))
