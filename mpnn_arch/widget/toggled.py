"""Graphs with some edges added or taken away, as a click on the widget asks."""

from __future__ import annotations

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph, as_graph
from mpnn_arch.graphs.relational_graph import RelationalGraph

Pair = tuple[int, int]


def toggled_graph(graph: GivenGraph, pairs: list[Pair]) -> RelationalGraph:
    """``graph`` with every pair (u, v) of ``pairs`` added, or taken away where it is there.

    In an undirected graph a pair stands for both directions.

    Raises:
        InputError: a node outside the graph, or a node that would receive no message at all.
    """
    graph = as_graph(graph)
    adjacency = graph.adjacency.copy()
    for u, v in pairs:
        if not (0 <= u < graph.num_nodes and 0 <= v < graph.num_nodes):
            raise InputError(
                f"there is no edge from {u} to {v} in a graph of {graph.num_nodes} nodes: nodes "
                f"are numbered 0 to {graph.num_nodes - 1}"
            )
        adjacency[v, u] = not adjacency[v, u]
        if not graph.is_directed:
            adjacency[u, v] = adjacency[v, u]
    silent = np.flatnonzero(~adjacency.any(axis=1))
    if silent.size:
        raise InputError(
            f"node {silent[0]} would receive no message at all: leave it at least one edge"
        )
    return RelationalGraph.from_adjacency(adjacency, directed=True, self_loops=False)


def with_toggled(toggled: list[list[int]], pair: list[int]) -> list[list[int]]:
    """``toggled`` with ``pair`` added, or taken out where it is there: twice is not at all."""
    rest = [other for other in toggled if other != pair]
    return rest if len(rest) < len(toggled) else [*rest, pair]
