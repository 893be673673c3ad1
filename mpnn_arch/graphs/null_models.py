"""Null models: random graphs with the degrees of a given graph."""

from __future__ import annotations

from random import Random

from mpnn_arch.checks import check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.family import TRIES
from mpnn_arch.graphs.relational_graph import RelationalGraph


def rewired(graph: RelationalGraph, seed: int = 0, swaps: int | None = None) -> RelationalGraph:
    """A graph with the degrees of ``graph``, in- and out-degree if directed, rewired at random.

    Pairs of edges swap ends: (a, b) and (c, d) become (a, d) and (c, b); in a directed graph three
    edges at a time. The result is connected (weakly, if directed) if ``graph`` is, and keeps its
    self-loops.

    Args:
        graph: the graph.
        seed: of the random stream.
        swaps: number of swaps; ten per edge by default.

    Raises:
        InputError: fewer than 4 nodes, or a graph (such as a complete one) whose edges cannot be
            swapped.

    Source: Maslov and Sneppen, Specificity and stability in topology of protein networks,
    Science 2002.
    """
    import networkx as nx

    if not isinstance(graph, RelationalGraph):
        raise InputError(f"a RelationalGraph is rewired, not {shown(graph)}; make one")
    swaps = 10 * graph.num_edges if swaps is None else swaps
    swaps = check_whole("swaps", swaps, 0)
    check_whole("swaps", swaps, 0, 100_000_000)  # about ten minutes
    stream = Random(check_whole("seed", seed, 0))
    bare = graph.to_networkx()
    loops = list(nx.selfloop_edges(bare))
    bare.remove_edges_from(loops)
    joined = nx.is_weakly_connected if graph.is_directed else nx.is_connected
    must_join = joined(bare)
    swap = nx.directed_edge_swap if graph.is_directed else nx.double_edge_swap
    if swaps == 0:
        return graph
    for _ in range(TRIES):
        drawn = bare.copy()
        try:
            swap(drawn, nswap=swaps, max_tries=100 * swaps + 1000, seed=stream)
        except nx.NetworkXException as error:
            raise InputError(
                f"{graph} cannot be rewired by {swaps} swaps ({error}); ask for fewer swaps, or "
                "use a graph that allows more of them"
            ) from None
        if must_join and not joined(drawn):
            continue
        drawn.add_edges_from(loops)
        return RelationalGraph.from_networkx(drawn, self_loops=False)
    raise InputError(
        f"{graph} was disconnected by each of {TRIES} rewirings with seed {seed}; "
        "ask for fewer swaps"
    )
