"""Betweenness: how many shortest paths lead through a node."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


def node_betweenness(batch: GraphBatch) -> Array:
    """(B, N): share of the other pairs' shortest paths that lead through each node.

    As ``networkx.betweenness_centrality``: Brandes' accumulation, one product of (N, N) matrices
    for each path length, over all sources and graphs at once.

    Source: Brandes, A faster algorithm for betweenness centrality, 2001.
    """
    num_nodes = batch.num_nodes
    batch.check_pairs("betweenness", 40)
    onward = batch.adjacency.astype(np.float64)  # [target, source]
    away = batch.distances  # [target, source]
    longest = int(away.max())
    # paths[t, s]: number of shortest paths from s to t, by their last edge.
    paths = np.broadcast_to(np.eye(num_nodes), away.shape).copy()
    for length in range(1, longest + 1):
        paths = np.where(away == length, onward @ np.where(away == length - 1, paths, 0.0), paths)
    # through[v, s]: share of the paths from s to all t that pass v, accumulated from the farthest.
    through = np.zeros(away.shape)
    for length in range(longest, 1, -1):
        here = away == length
        share = np.divide(1.0 + through, paths, out=np.zeros(away.shape), where=here)
        passed = onward.transpose(0, 2, 1) @ share
        through += np.where(away == length - 1, paths * passed, 0.0)
    through[:, np.arange(num_nodes), np.arange(num_nodes)] = 0.0
    return through.sum(axis=2) / max(1, (num_nodes - 1) * (num_nodes - 2))


@MEASURES.register("betweenness_mean")
def betweenness_mean(batch: GraphBatch) -> Array:
    """(B,): mean of :func:`node_betweenness` over the nodes."""
    return node_betweenness(batch).mean(axis=1)


@MEASURES.register("betweenness_max")
def betweenness_max(batch: GraphBatch) -> Array:
    """(B,): largest :func:`node_betweenness` of a node."""
    return node_betweenness(batch).max(axis=1)
