"""Modularity: how well a graph divides into communities."""

from __future__ import annotations

import numpy as np

from mpnn_arch.checks import check_whole
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("modularity")
def modularity(batch: GraphBatch) -> Array:
    """(B,): modularity Q of the communities that Louvain finds (networkx, seed 0).

    Source: Blondel, Guillaume, Lambiotte, Lefebvre, Fast unfolding of communities, 2008.
    """
    import networkx as nx

    found = [
        nx.community.modularity(drawn, communities) if drawn.size() else 0.0
        for drawn, communities in zip(batch.drawn, batch.communities, strict=True)
    ]
    return np.array(found, dtype=np.float64)


@MEASURES.register("modularity_by_depth")
def modularity_by_depth(batch: GraphBatch, rounds: int = 3) -> Array:
    """(B,): how much of the communities is left when the graph is unrolled over R rounds.

    A network of R rounds is the graph unrolled: node v of round r + 1 receives from N(v), itself
    included, of round r. With the communities of the graph that Louvain finds (seed 0), the degrees
    d_v with self-loops, M = D^-1 (A + I) and pi_v = d_v / sum_u d_u,

        Q_R = sum_c sum_{u, v in c} (pi_u (M^R)_uv - pi_u pi_v),

    the chance that a walk along the messages of R rounds ends in the community where it began, less
    that of two independent nodes. Deep networks mix communities: Q_R falls with R, by the second
    largest eigenvalue of M in the end. Communities that no path joins are not mixed.

    Args:
        batch: undirected graphs.
        rounds: R, at least 1; the paper's 5-layer MLP has 3.

    Raises:
        InputError: directed graphs, or less than one round.

    Source: the question is that of arXiv 2507.10005 (effects of relational graph modularity and
    depth), of which the abstract was consulted; the definition is not taken from there. It is the
    stability of Delvenne, Yaliraki, Barahona, Stability of graph communities across time scales,
    PNAS 2010, at R steps of a graph with self-loops; R = 1 is Newman's modularity.
    """
    batch.refuse_directed("the modularity of rounds")
    rounds = check_whole("rounds", rounds, 1, 10_000)
    found = []
    for adjacency, communities in zip(batch.adjacency, batch.communities, strict=True):
        step = adjacency + np.eye(len(adjacency))
        degree = step.sum(axis=1)
        member = np.zeros((len(adjacency), len(communities)))
        for place, nodes in enumerate(communities):
            member[list(nodes), place] = 1.0
        share = degree / degree.sum()
        walk = member
        for _ in range(rounds):
            walk = step @ walk / degree[:, None]
        stays = (share[:, None] * member * walk).sum()
        found.append(float(stays - ((share @ member) ** 2).sum()))
    return np.array(found, dtype=np.float64)
