"""The star: one hub, linked to every other node."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("star")
def star(num_nodes: int) -> RelationalGraph:
    """Node 0 is linked to each of the num_nodes - 1 others.

    Raises:
        InputError: fewer than 2 nodes.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.star(5).degrees
        array([4, 1, 1, 1, 1])
    """
    num_nodes = check_num_nodes(num_nodes)
    check_edges("star", num_nodes, num_nodes - 1)
    leaf = np.arange(1, num_nodes)
    return RelationalGraph(num_nodes, np.stack([np.zeros_like(leaf), leaf]))
