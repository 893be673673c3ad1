"""The rectangular grid, open or periodic (a torus)."""

from __future__ import annotations

import math

import numpy as np

from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("grid")
def grid(num_nodes: int, num_columns: int | None = None, periodic: int = 0) -> RelationalGraph:
    """Nodes in rows and columns, each linked to the next in its row and in its column.

    Args:
        num_nodes: N = rows x columns.
        num_columns: a divisor of N; by default the one that makes the grid closest to a square.
        periodic: 1 links the last of every row and column to the first: a torus.

    Raises:
        InputError: a number of columns that does not divide N.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.grid(num_nodes=12, num_columns=4).num_edges
        17
    """
    num_nodes = check_num_nodes(num_nodes)
    periodic = check_whole("periodic", periodic, 0, 1)
    if num_columns is None:
        rows = next(r for r in range(math.isqrt(num_nodes), 0, -1) if num_nodes % r == 0)
        num_columns = num_nodes // rows
    num_columns = check_whole("num_columns", num_columns, 1, num_nodes)
    if num_nodes % num_columns:
        raise InputError(
            f"{num_nodes} nodes cannot be arranged in {num_columns} columns; give a divisor of "
            f"{num_nodes}"
        )
    check_edges("grid", num_nodes, 2 * num_nodes)
    node = np.arange(num_nodes).reshape(-1, num_columns)
    links = [(node[:, :-1], node[:, 1:]), (node[:-1], node[1:])]
    if periodic:
        links += [(node[:, -1], node[:, 0]), (node[-1], node[0])]
    edges = np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in links], axis=1)
    return RelationalGraph(num_nodes, edges[:, edges[0] != edges[1]])
