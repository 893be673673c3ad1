"""Degrees of the nodes and their distribution."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("degree_mean")
def degree_mean(batch: GraphBatch) -> Array:
    """(B,): mean degree of the nodes (in-degree, if directed)."""
    return batch.degrees.mean(axis=1)


@MEASURES.register("degree_std")
def degree_std(batch: GraphBatch) -> Array:
    """(B,): standard deviation of the degrees over the nodes."""
    return batch.degrees.std(axis=1)


@MEASURES.register("degree_min")
def degree_min(batch: GraphBatch) -> Array:
    """(B,): the smallest degree."""
    return batch.degrees.min(axis=1).astype(np.float64)


@MEASURES.register("degree_max")
def degree_max(batch: GraphBatch) -> Array:
    """(B,): the largest degree."""
    return batch.degrees.max(axis=1).astype(np.float64)


@MEASURES.register("density")
def density(batch: GraphBatch) -> Array:
    """(B,): mean degree over N, of the edges that there are.

    The ``density`` of the paper's files, and of an exported study, is that which WS-flex was asked
    for; a number of edges being whole, the two are at most 1 / N^2 apart.
    """
    return batch.degrees.mean(axis=1) / batch.num_nodes


@MEASURES.register("degree_entropy")
def degree_entropy(batch: GraphBatch) -> Array:
    """(B,): Shannon entropy of the distribution of degrees, in bits."""
    counts = np.stack([np.bincount(row, minlength=batch.num_nodes) for row in batch.degrees])
    share = counts / batch.num_nodes
    return -np.where(share > 0, share * np.log2(np.where(share > 0, share, 1)), 0).sum(axis=1) + 0.0


@MEASURES.register("assortativity")
def assortativity(batch: GraphBatch) -> Array:
    """(B,): Pearson correlation of the degrees at the two ends of an edge.

    NaN where all degrees are equal.

    Raises:
        InputError: directed graphs.

    Source: Newman, Mixing patterns in networks, Physical Review E 2003.
    """
    batch.refuse_directed("assortativity")
    batch.check_pairs("assortativity", 9)
    degree = batch.degrees.astype(np.float64)
    ends = degree.sum(axis=1)  # number of edge ends: the sum of all degrees
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (degree**2).sum(axis=1) / ends
        off = degree - mean[:, None]
        variance = (degree * off**2).sum(axis=1)
        covariance = np.einsum("bi,bij,bj->b", off, batch.adjacency.astype(np.float64), off)
        return np.where(variance > 1e-12, covariance / variance, np.nan)
