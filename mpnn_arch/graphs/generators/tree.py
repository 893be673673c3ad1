"""The balanced tree."""

from __future__ import annotations

import numpy as np

from mpnn_arch.checks import check_whole
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("tree")
def tree(num_nodes: int, branching: int = 2) -> RelationalGraph:
    """Node i > 0 is linked to its parent, floor((i - 1) / branching); N - 1 edges.

    Args:
        num_nodes: N.
        branching: children of every node except the last ones, in [1, N - 1].

    Raises:
        InputError: a value outside its range.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.tree(num_nodes=7, branching=2).degrees
        array([2, 3, 3, 1, 1, 1, 1])
    """
    num_nodes = check_num_nodes(num_nodes)
    branching = check_whole("branching", branching, 1, num_nodes - 1)
    check_edges("tree", num_nodes, num_nodes - 1)
    child = np.arange(1, num_nodes)
    return RelationalGraph(num_nodes, np.stack([(child - 1) // branching, child]))
