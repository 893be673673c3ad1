"""LFR benchmark graphs: communities and degrees that both follow power laws."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
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
# Draws for the neighbours of a node until those that are possible are listed.
PATIENCE = 50
# Share of the ends of edges that may be without another.
MOST_MISSING = 0.02


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
        mixing: mu, the share of a node's edges that leave its community, in [0, 1]; less where the
            other communities together have too few edges for those of a large one.
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
    """Every node with its neighbours inside its community, then outside; None if many lack some."""
    import networkx as nx

    made = nx.Graph()
    made.add_nodes_from(range(len(degrees)))
    home = {node: number for number, members in enumerate(communities) for node in members}
    outside = len(degrees) - np.array([len(communities[home[node]]) for node in made])
    if (np.array(degrees) - internal > outside).any():
        return None
    missing = list(internal)
    for members in communities:
        _join(stream, made, missing, sorted(members), lambda u, v: True)
    # What a community has no room for is sought outside, and what nobody outside lacks, anywhere.
    missing = [degree - made.degree[node] for node, degree in enumerate(degrees)]
    _join(stream, made, missing, list(made), lambda u, v: home[u] != home[v])
    _join(stream, made, missing, list(made), lambda u, v: min(internal[u], internal[v]) > 0)
    return made if sum(missing) <= MOST_MISSING * sum(degrees) else None


def _join(
    stream: Random,
    made: nx.Graph,
    missing: list[int],
    among: Sequence[int],
    may: Callable[[int, int], bool],
) -> None:
    """Add random edges between nodes that lack some, those that lack most first.

    Nodes that have all of theirs are not given more: drawn among all nodes, as networkx does,
    edges were a tenth too many.

    Args:
        stream: randomness.
        made: gets the edges.
        missing: how many edges each node lacks; what is left cannot be joined.
        among: the nodes that are joined.
        may: whether two of them may be.
    """
    # A node as often as it lacks edges, at least.
    ends = [node for node in among for _ in range(missing[node])]
    for node in sorted(among, key=missing.__getitem__, reverse=True):
        patience = PATIENCE
        while missing[node] > 0 and ends:
            place = stream.randrange(len(ends))
            other = ends[place]
            if missing[other] < 1:
                ends[place] = ends[-1]
                ends.pop()
                continue
            if other == node or made.has_edge(node, other) or not may(node, other):
                patience -= 1
                if patience > 0:
                    continue
                free = [
                    v
                    for v in among
                    if missing[v] > 0 and v != node and not made.has_edge(node, v) and may(node, v)
                ]
                if not free:
                    break
                other = stream.choice(free)
            made.add_edge(node, other)
            missing[node] -= 1
            missing[other] -= 1
