"""LFR benchmark graphs: communities and degrees that both follow power laws."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence, Set
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from mpnn_arch.checks import check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.connected import connected
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    import networkx as nx

# Nodes of the largest graph.
LARGEST = 20_000
# Sequences of degrees, and of sizes of communities, that are drawn for one graph.
MOST_SEQUENCES = 200


@GENERATORS.register("lfr")
def lfr(
    num_nodes: int,
    average_degree: float,
    mixing: float = 0.2,
    degree_exponent: float = 3.0,
    community_exponent: float = 1.5,
    min_community: int | None = None,
    seed: int = 0,
) -> RelationalGraph:
    """A graph of communities in which a share 1 - ``mixing`` of each node's edges is internal.

    Args:
        num_nodes: N.
        average_degree: in [2, N - 1]; that of the graph is close to it, as the smallest degree is a
            whole number.
        mixing: mu, the share of a node's edges that leave its community, in [0, 1].
        degree_exponent: tau_1 of the degrees, above 1.
        community_exponent: tau_2 of the sizes of communities, above 1.
        min_community: smallest community; by default a sixth of the nodes.
        seed: of the random stream.

    Raises:
        InputError: a value outside its range, or no such graph in 100 tries.

    Source: Lancichinetti, Fortunato, Radicchi, Benchmark graphs for testing community detection
    algorithms, Physical Review E 2008.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.lfr(num_nodes=64, average_degree=6, seed=0).num_nodes
        64
    """
    num_nodes = check_num_nodes(num_nodes, least=4)
    if num_nodes > LARGEST:
        raise InputError(
            f"lfr takes time proportional to the square of its nodes, at most {LARGEST:,}, not "
            f"{num_nodes:,}; ask for fewer, or use modular"
        )
    average_degree = check_range("average_degree", average_degree, 2, num_nodes - 1)
    mixing = check_range("mixing", mixing, 0, 1)
    tau_1 = check_range("degree_exponent", degree_exponent, 1.001, 100)
    tau_2 = check_range("community_exponent", community_exponent, 1.001, 100)
    smallest = max(2, num_nodes // 6) if min_community is None else min_community
    smallest = check_whole("min_community", smallest, 2, num_nodes)

    least = _least_degree(tau_1, average_degree, num_nodes)
    most_draws = round(10_000 + num_nodes * (1_000 + 100 * average_degree))

    def draw(stream: Random) -> nx.Graph | None:
        """Like ``networkx.LFR_benchmark_graph``, which draws on where nothing can come of it."""
        degrees = _power_law(
            stream,
            tau_1,
            (least, num_nodes),
            lambda drawn: len(drawn) >= num_nodes,
            lambda drawn: sum(drawn) % 2 == 0,
            most_draws,
        )
        sizes = degrees and _power_law(
            stream,
            tau_2,
            (smallest, max(degrees)),
            lambda drawn: sum(drawn) >= num_nodes,
            lambda drawn: sum(drawn) == num_nodes,
            most_draws,
        )
        if not degrees or not sizes:
            return None
        internal = [round(degree * (1 - mixing)) for degree in degrees]
        communities = _communities(stream, internal, sizes)
        return communities and _joined(stream, degrees, internal, communities)

    return connected(
        draw,
        seed,
        f"lfr of {num_nodes} nodes, degree {average_degree:g} and mixing {mixing:g}",
        advice="ask for a lower degree, more mixing or another min_community",
    )


def _least_degree(exponent: float, average: float, most: int) -> int:
    """The smallest degree with which a power law up to ``most`` has the mean nearest to this.

    Networkx's is smaller: the mean of its degrees was half of what was asked for.
    """
    logs = np.log(np.arange(most, 0, -1))
    means = np.logaddexp.accumulate((1 - exponent) * logs) - np.logaddexp.accumulate(
        -exponent * logs
    )
    return most - int(np.abs(np.exp(means) - average).argmin())


def _power_law(
    stream: Random,
    exponent: float,
    limits: tuple[int, int],
    ended: Callable[[list[int]], bool],
    fits: Callable[[list[int]], bool],
    most_draws: int,
) -> list[int] | None:
    """Numbers of a power law within ``limits`` until ``ended``, drawn again until one ``fits``.

    None if no sequence fits, or after ``most_draws`` numbers.
    """
    low, high = limits
    if high < low:
        return None
    # Devroye's rejection, as in `networkx.utils.zipf_rv`. A u below `least` gives a number that is
    # too large, whatever v is.
    slope = exponent - 1
    scale = 2**slope
    least = (low / (high + 1)) ** slope * (1 - 1e-9)
    for _ in range(MOST_SEQUENCES):
        drawn: list[int] = []
        while not ended(drawn):
            most_draws -= 1
            if most_draws < 0:
                return None
            u = 1.0 - stream.random()
            v = stream.random()
            if u < least:
                continue
            x = int(low * u ** -(1.0 / slope))
            t = (1.0 + 1.0 / x) ** slope
            if x <= high and v * x * (t - 1.0) / (scale - 1.0) <= t / scale:
                drawn.append(x)
        if fits(drawn):
            return drawn
    return None


def _communities(stream: Random, internal: list[int], sizes: list[int]) -> list[set[int]] | None:
    """The nodes of each community, in which every node finds its number of internal neighbours."""
    # A node with i of them needs a community of more than i members; nodes with as many or more
    # need as much room there.
    ascending = sorted(sizes)
    room = np.cumsum([0, *ascending[::-1]])
    for needing, most in enumerate(sorted(internal, reverse=True), 1):
        if needing > room[len(sizes) - bisect_right(ascending, most)]:
            return None
    made: list[set[int]] = [set() for _ in sizes]
    free = list(range(len(internal)))
    for _ in range(MOST_SEQUENCES * 10 * len(internal)):
        node = free.pop()
        which = stream.choice(range(len(sizes)))
        if internal[node] < sizes[which]:
            made[which].add(node)
        else:
            free.append(node)
        if len(made[which]) > sizes[which]:
            free.append(made[which].pop())
        if not free:
            return made
    return None


def _joined(
    stream: Random, degrees: list[int], internal: list[int], communities: list[set[int]]
) -> nx.Graph | None:
    """Every node with its neighbours inside its community, then outside; None if too few are."""
    import networkx as nx

    nodes = range(len(degrees))
    neighbours: list[set[int]] = [set() for _ in nodes]

    def join(node: int, among: Sequence[int], until: int, avoided: Set[int]) -> None:
        # A node that has its edges is passed over while others are likely to be found.
        patience = 4 * len(among)
        while len(neighbours[node]) < until:
            other = stream.choice(among)
            if other in avoided or other in neighbours[node]:
                continue
            if len(neighbours[other]) >= degrees[other] and patience > 0:
                patience -= 1
                continue
            neighbours[node].add(other)
            neighbours[other].add(node)

    for community in communities:
        members = list(community)
        for node in community:
            join(node, members, internal[node], {node})
            outside = len(nodes) - len(members) - len(neighbours[node] - community)
            if len(neighbours[node]) + outside < degrees[node]:
                return None
            join(node, nodes, degrees[node], community)
    made = nx.Graph()
    made.add_nodes_from(nodes)
    made.add_edges_from((u, v) for u in nodes for v in neighbours[u] if u < v)
    return made
