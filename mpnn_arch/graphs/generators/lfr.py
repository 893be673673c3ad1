"""LFR benchmark graphs: communities and degrees that both follow power laws."""

from __future__ import annotations

from random import Random
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.generators.family import (
    GENERATORS,
    check_num_nodes,
    check_range,
    check_whole,
    connected,
)
from mpnn_arch.graphs.relational_graph import RelationalGraph

# Nodes of the largest graph, which takes minutes.
LARGEST = 20_000


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
        average_degree: in [2, N - 1]; that of the graph is close to it.
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

    def draw(stream: Random) -> Any:
        import networkx as nx

        try:
            drawn = nx.LFR_benchmark_graph(
                num_nodes,
                tau_1,
                tau_2,
                mixing,
                average_degree=average_degree,
                min_community=smallest,
                max_iters=200,
                seed=stream,
            )
        except (nx.ExceededMaxIterations, OverflowError):  # a degree above 2^1023
            return None
        drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
        return drawn

    # Without a bound, networkx draws for ever where a node's community has too few members for its
    # internal edges, or holds all the nodes so that none is left for the others.
    return connected(
        draw,
        seed,
        f"lfr of {num_nodes} nodes, degree {average_degree:g} and mixing {mixing:g}",
        most_draws=round(10_000 + num_nodes * (1_000 + 100 * average_degree)),
    )
