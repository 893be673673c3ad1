"""Harary graphs: the highest node connectivity for a given number of edges."""

from __future__ import annotations

from mpnn_arch.checks import check_whole
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_num_nodes, check_size
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("harary")
def harary(num_nodes: int, num_edges: int) -> RelationalGraph:
    """A graph whose node connectivity, floor(2 e / N), is the highest that e edges allow.

    Args:
        num_nodes: N.
        num_edges: e, in [N - 1, N (N - 1) / 2].

    Raises:
        InputError: an impossible number of edges.

    Source: Harary, The maximum connectivity of a graph, PNAS 1962.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.harary(num_nodes=8, num_edges=12).degrees
        array([3, 3, 3, 3, 3, 3, 3, 3])
    """
    from networkx.generators.harary_graph import hnm_harary_graph

    num_nodes = check_num_nodes(num_nodes)
    num_edges = check_whole("num_edges", num_edges, num_nodes - 1, num_nodes * (num_nodes - 1) // 2)
    check_size("harary", num_nodes, num_edges)
    return RelationalGraph.from_networkx(hnm_harary_graph(num_nodes, num_edges))
