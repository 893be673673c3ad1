"""Null models: random graphs with the degrees of a given graph, and with its clustering."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from mpnn_arch.checks import check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.connected import TRIES
from mpnn_arch.graphs.given import GivenGraph, as_graph
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    import networkx as nx


def rewired(graph: GivenGraph, seed: int = 0, swaps: int | None = None) -> RelationalGraph:
    """A graph with the degrees of ``graph``, in- and out-degree if directed, rewired at random.

    Pairs of edges swap ends: (a, b) and (c, d) become (a, d) and (c, b); in a directed graph three
    edges in a circle are turned around, too, without which some graphs are out of reach. The result
    is connected (weakly, if directed) if ``graph`` is, and keeps its self-loops. Of an undirected
    graph with more than half of all edges the complement is rewired: the graphs of the same degrees
    are the complements of those of its degrees, and where few pairs are free few swaps of edges are
    possible.

    The draw is not exactly uniform. Swaps made are counted, not swaps tried, which favours graphs
    with many possible swaps: of the 7 connected graphs with degrees 3, 2, 3, 2, 2 one is drawn 1.5
    times as often as another, of small directed graphs up to 3 times. Among many edges they all
    have about as many.

    Args:
        graph: the graph, or its specification.
        seed: of the random stream.
        swaps: number of swaps; by default ten per edge of what is rewired, in half of the draws of
            a directed graph one more.

    Raises:
        InputError: a graph whose edges cannot be swapped, such as a complete one, or an undirected
            one of fewer than 4 nodes.

    Source: Maslov and Sneppen, Specificity and stability in topology of protein networks,
    Science 2002; Rao, Jana, Bandyopadhyay, A Markov chain Monte Carlo method for generating random
    (0, 1)-matrices with given marginals, Sankhya A 1996, for the circles.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.ring(16, 4)
        >>> null = graphs.rewired(graph, seed=0)
        >>> bool((null.degrees == graph.degrees).all())
        True
        >>> null.clustering_coefficient < graph.clustering_coefficient
        True
    """
    import networkx as nx

    graph = as_graph(graph)
    pairs = graph.num_nodes * (graph.num_nodes - 1) // 2
    is_dense = not graph.is_directed and 2 * graph.num_edges > pairs
    by_default = swaps is None
    if swaps is None:
        swaps = 10 * (max(1, pairs - graph.num_edges) if is_dense else graph.num_edges)
    swaps = check_whole("swaps", swaps, 0, 100_000_000)  # about ten minutes
    stream = Random(check_whole("seed", seed, 0))
    if by_default and graph.is_directed:
        # Where one other graph has its degrees, an even number of swaps would never end there.
        swaps += stream.randrange(2)
    bare = graph.to_networkx()
    loops = list(nx.selfloop_edges(bare))
    bare.remove_edges_from(loops)
    joined = nx.is_weakly_connected if graph.is_directed else nx.is_connected
    must_join = joined(bare)
    swap = _swap_directed if graph.is_directed else nx.double_edge_swap
    if swaps == 0:
        return graph
    few = nx.complement(bare) if is_dense else bare
    for _ in range(TRIES):
        drawn = few.copy()
        try:
            swap(drawn, nswap=swaps, max_tries=100 * swaps + 1000, seed=stream)
        except nx.NetworkXException as error:
            where = "in the graph of its missing edges: " if is_dense else ""
            raise InputError(
                f"{graph} cannot be rewired by {swaps} swaps: no or few other graphs have its "
                f"degrees ({where}{error}); ask for fewer swaps, or use another graph"
            ) from None
        if is_dense:
            drawn = nx.complement(drawn)
        if must_join and not joined(drawn):
            continue
        drawn.add_edges_from(loops)
        return RelationalGraph.from_networkx(drawn, self_loops=False)
    raise InputError(
        f"{graph} was disconnected by each of {TRIES} rewirings with seed {seed}; "
        "ask for fewer swaps"
    )


def _swap_directed(graph: nx.DiGraph, nswap: int, max_tries: int, seed: Random) -> None:
    """Swap ends of edges in place, as ``networkx.double_edge_swap`` does without direction.

    ``networkx.directed_edge_swap`` needs paths of three edges, and so cannot change a graph from
    sources to sinks.

    Raises:
        networkx.NetworkXAlgorithmError: too few swaps in ``max_tries`` tries.
    """
    import networkx as nx

    edges = list(graph.edges)
    there = set(edges)
    swaps = 0
    for _ in range(max_tries if len(edges) > 1 else 0):
        if swaps == nswap:
            break
        first, second = seed.sample(range(len(edges)), 2)
        (a, b), (c, d) = edges[first], edges[second]
        if b == c and (d, a) in there:
            old, new = [(a, b), (b, d), (d, a)], [(b, a), (d, b), (a, d)]
        elif a == d or b == c:
            continue
        else:
            old, new = [(a, b), (c, d)], [(a, d), (c, b)]
        if not there.isdisjoint(new):
            continue
        there.difference_update(old)
        there.update(new)
        places = [first, second, *(edges.index(edge) for edge in old[2:])]
        for place, edge in zip(places, new, strict=True):
            edges[place] = edge
        swaps += 1
    if swaps < nswap:
        raise nx.NetworkXAlgorithmError(f"{swaps} swaps in {max_tries} tries")
    graph.clear_edges()
    graph.add_edges_from(edges)


def rewired_to_clustering(
    graph: GivenGraph,
    clustering: float | None = None,
    tolerance: float = 0.005,
    seed: int = 0,
    swaps: int | None = None,
) -> RelationalGraph:
    """A graph with the degrees of ``graph`` and a given C, otherwise random.

    The graph is first rewired at random, see :func:`rewired`; then swaps of the ends of two edges
    are tried until C is within the tolerance of its target. A swap that brings C closer is kept,
    another with a chance that falls with its harm and with the number of swaps tried (simulated
    annealing). The result is connected if ``graph`` is, and keeps its self-loops.

    Args:
        graph: undirected, or its specification.
        clustering: the target; None: that of ``graph``.
        tolerance: largest difference from it, above 0.
        seed: of the random stream.
        swaps: most swaps to try; 1,000 per edge by default.

    Raises:
        InputError: a directed graph, one that cannot be rewired, or a target that was not reached.

    Source: Bansal, Khandelwal, Meyers, Exploring biological network structure with clustered random
    networks, BMC Bioinformatics 2009; Metropolis et al. 1953 for the acceptance.

    Example:
        >>> from mpnn_arch import graphs
        >>> null = graphs.rewired_to_clustering(graphs.ring(32, 4), clustering=0.3, tolerance=0.02)
        >>> bool(abs(null.clustering_coefficient - 0.3) <= 0.02)
        True
    """
    graph = as_graph(graph)
    if graph.is_directed:
        raise InputError(f"{graph} is directed, and this null model is not; symmetrise it")
    target = graph.clustering_coefficient if clustering is None else clustering
    target = check_range("clustering", target, 0.0, 1.0)
    tolerance = check_range("tolerance", tolerance, 1e-9, 1.0)
    swaps = 1000 * graph.num_edges if swaps is None else swaps
    swaps = check_whole("swaps", swaps, 0, 100_000_000)
    start = rewired(graph, seed)
    search = _ClusteringSearch(start, Random(seed))
    search.run(target, tolerance, swaps)
    if abs(search.clustering - target) > tolerance:
        raise InputError(
            f"clustering {search.clustering:.4f} was reached by {swaps} swaps, not {target:.4f} "
            f"within {tolerance:g}; allow more swaps or a larger tolerance, or choose a target "
            "that these degrees allow"
        )
    edges = [(u, v) for u, near in enumerate(search.near) for v in near if u < v]
    loops = [(int(u), int(u)) for u, v in graph.edges.T if u == v]
    ends = list(zip(*(edges + loops), strict=True))
    return RelationalGraph(graph.num_nodes, ends, self_loops=False)


class _ClusteringSearch:
    """Swaps of edge ends that keep degrees, with C kept up to date by the triangles that change.

    Args:
        graph: undirected; its self-loops are left out.
        stream: randomness.
    """

    def __init__(self, graph: RelationalGraph, stream: Random) -> None:
        self.stream = stream
        self.near: list[set[int]] = [set() for _ in range(graph.num_nodes)]
        for u, v in graph.edges.T.tolist():
            if u != v:
                self.near[v].add(u)
        self.edges = [(u, v) for u, near in enumerate(self.near) for v in sorted(near) if u < v]
        # What one triangle at a node adds to C.
        degrees = [len(near) for near in self.near]
        self.share = [2 / (d * (d - 1)) / len(degrees) if d > 1 else 0.0 for d in degrees]
        self.must_join = self._is_connected()
        self.clustering = graph.clustering_coefficient

    def run(self, target: float, tolerance: float, swaps: int) -> None:
        """Swap until C is within the tolerance of the target, at most so many times."""
        if len(self.edges) < 2:
            return
        # A change of C that one swap makes, about: the first temperature.
        warmth = 2 / max(1, len(self.edges))
        for tried in range(swaps):
            off = abs(self.clustering - target)
            if off <= tolerance:
                return
            first, second = self.stream.sample(range(len(self.edges)), 2)
            (a, b), (c, d) = self.edges[first], self.edges[second]
            if self.stream.random() < 0.5:
                c, d = d, c
            if len({a, b, c, d}) < 4 or d in self.near[a] or b in self.near[c]:
                continue
            before = self.clustering
            self._swap(a, b, c, d)
            worse = abs(self.clustering - target) - off
            heat = warmth * (1 - tried / swaps) / 10
            keep = worse <= 0 or (heat > 0 and self.stream.random() < math.exp(-worse / heat))
            if keep and self.must_join and not self._is_connected():
                keep = False
            if keep:
                self.edges[first], self.edges[second] = (a, d), (c, b)
            else:
                self._swap(a, d, c, b)
                self.clustering = before

    def _swap(self, a: int, b: int, c: int, d: int) -> None:
        """Edges a - b and c - d become a - d and c - b."""
        self._change(a, b, -1)
        self._change(c, d, -1)
        self._change(a, d, 1)
        self._change(c, b, 1)

    def _change(self, u: int, v: int, sign: int) -> None:
        near, share = self.near, self.share
        common = near[u] & near[v]
        gain = len(common) * (share[u] + share[v]) + math.fsum(share[w] for w in common)
        self.clustering += sign * gain
        if sign > 0:
            near[u].add(v)
            near[v].add(u)
        else:
            near[u].remove(v)
            near[v].remove(u)

    def _is_connected(self) -> bool:
        seen, waiting = {0}, [0]
        while waiting:
            new = self.near[waiting.pop()] - seen
            seen |= new
            waiting += new
        return len(seen) == len(self.near)
