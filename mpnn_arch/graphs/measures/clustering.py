"""Clustering coefficient: the fraction of a node's neighbours that are linked to each other."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs import c_and_l
from mpnn_arch.graphs.c_and_l import mean_in_order
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


def local_clustering(batch: GraphBatch) -> Array:
    """(B, N): the clustering coefficient of every node, 0 without a pair of neighbours.

    See :func:`mpnn_arch.graphs.c_and_l.local_clustering`.

    Example:
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.graphs.measures import local_clustering
        >>> local_clustering(graphs.GraphBatch.of([graphs.ring(6, 4)]))
        array([[0.66666667, 0.66666667, 0.66666667, 0.66666667, 0.66666667,
                0.66666667]])
    """
    return c_and_l.local_clustering(batch.words, batch.directed)


@MEASURES.register("clustering_coefficient")
def clustering_coefficient(batch: GraphBatch) -> Array:
    """(B,): C, the mean of :func:`local_clustering` over the nodes.

    Source: Watts and Strogatz, Nature 1998; You, Leskovec, He, Xie, ICML 2020, section 3.2.

    Example:
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.graphs.measures import clustering_coefficient
        >>> clustering_coefficient(graphs.GraphBatch.of([graphs.ring(8, 4), graphs.complete(8)]))
        array([0.5, 1. ])
    """
    return c_and_l.clustering_coefficient(batch.words, batch.directed)


@MEASURES.register("neighbourhood_clustering")
def neighbourhood_clustering(batch: GraphBatch) -> Array:
    """(B,): mean fraction of the possible directed links among a node's neighbours.

    A node with k in- or out-neighbours contributes the number of directed links among them over
    k (k - 1), or 0 if k < 2. For undirected graphs it equals :func:`clustering_coefficient`. Of the
    directed definitions it comes closest to the paper's table of biological networks.
    """
    batch.check_pairs("neighbourhood clustering", 24)
    linked = batch.adjacency.astype(np.float64)
    near = ((linked + linked.transpose(0, 2, 1)) > 0).astype(np.float64)
    links = np.einsum("bij,bij->bi", near @ linked, near)
    count = near.sum(axis=2)
    pairs = count * (count - 1)
    return mean_in_order(np.divide(links, pairs, out=np.zeros(links.shape), where=pairs > 0))
