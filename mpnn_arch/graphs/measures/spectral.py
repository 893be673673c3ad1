"""Spectra: how fast messages mix."""

from __future__ import annotations

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("spectral_gap")
def spectral_gap(batch: GraphBatch) -> Array:
    """(B,): largest minus second largest eigenvalue of the adjacency, self-loops left out.

    Raises:
        InputError: directed graphs.
    """
    batch.refuse_directed("the spectral gap")
    _check(batch, "spectral gap")
    values = np.linalg.eigvalsh(batch.adjacency.astype(np.float64))
    return values[:, -1] - values[:, -2]


@MEASURES.register("algebraic_connectivity")
def algebraic_connectivity(batch: GraphBatch) -> Array:
    """(B,): second smallest eigenvalue of the Laplacian D - A; 0 if the graph is disconnected.

    Raises:
        InputError: directed graphs.

    Source: Fiedler, Algebraic connectivity of graphs, 1973.
    """
    batch.refuse_directed("algebraic connectivity")
    _check(batch, "algebraic connectivity")
    laplacian = -batch.adjacency.astype(np.float64)
    node = np.arange(batch.num_nodes)
    laplacian[:, node, node] = batch.degrees
    return np.maximum(np.linalg.eigvalsh(laplacian)[:, 1], 0.0)


def _check(batch: GraphBatch, what: str) -> None:
    if batch.num_nodes < 2:
        raise InputError(f"a graph of 1 node has one eigenvalue, so no {what}; use 2 nodes or more")
    batch.check_pairs(f"the {what}", 24)
