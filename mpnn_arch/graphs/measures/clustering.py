"""Clustering coefficient: how many of a node's neighbours are neighbours of each other."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs import bitset
from mpnn_arch.graphs.measures.batch import Array, GraphBatch, mean_in_order
from mpnn_arch.graphs.measures.registry import MEASURES


def local_clustering(batch: GraphBatch) -> Array:
    """(B, N): the clustering coefficient of every node, 0 where it has no pair of neighbours.

    Undirected: links among a node's k neighbours over k (k - 1) / 2. Directed: the directed
    triangles through the node, each path counted in either direction, over those that its
    in- and out-links could close (Fagiolo 2007), as in ``networkx.clustering``.
    """
    if not batch.directed:
        closed = bitset.triangles(batch.words)
        possible = batch.degrees * (batch.degrees - 1)
    else:
        linked = batch.adjacency.astype(np.float64)  # whole numbers below 2**53: exact
        either = linked + linked.transpose(0, 2, 1)
        closed = np.einsum("bij,bji->bi", either @ either, either).astype(np.int64)
        degrees = either.sum(axis=2).astype(np.int64)
        mutual = (either == 2).sum(axis=2)
        possible = 2 * (degrees * (degrees - 1) - 2 * mutual)
    return np.divide(closed, possible, out=np.zeros(closed.shape), where=possible > 0)


@MEASURES.register("clustering_coefficient")
def clustering_coefficient(batch: GraphBatch) -> Array:
    """(B,): C, the mean of :func:`local_clustering` over the nodes.

    Equal to ``networkx.average_clustering`` to the last bit.

    Source: Watts and Strogatz, Nature 1998; You, Leskovec, He, Xie, ICML 2020, section 3.2.
    """
    return mean_in_order(local_clustering(batch))


@MEASURES.register("neighbourhood_clustering")
def neighbourhood_clustering(batch: GraphBatch) -> Array:
    """(B,): mean share of the directed links that a node's in- or out-neighbours have among them.

    With k neighbours in either direction that is their links over k (k - 1), 0 where k < 2. For
    undirected graphs it is :func:`clustering_coefficient`. Of the directed definitions it comes
    closest to the paper's table of biological networks.
    """
    linked = batch.adjacency.astype(np.float64)
    near = ((linked + linked.transpose(0, 2, 1)) > 0).astype(np.float64)
    links = np.einsum("bij,bij->bi", near @ linked, near)
    count = near.sum(axis=2)
    pairs = count * (count - 1)
    return mean_in_order(np.divide(links, pairs, out=np.zeros(links.shape), where=pairs > 0))
