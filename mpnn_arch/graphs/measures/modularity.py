"""Modularity: how well a graph divides into communities."""

from __future__ import annotations

import numpy as np

from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES


@MEASURES.register("modularity")
def modularity(batch: GraphBatch) -> Array:
    """(B,): modularity Q of the communities that Louvain finds (networkx, seed 0).

    Source: Blondel, Guillaume, Lambiotte, Lefebvre, Fast unfolding of communities, 2008.
    """
    import networkx as nx

    kind = nx.DiGraph if batch.directed else nx.Graph
    found = []
    for adjacency in batch.adjacency:
        drawn = nx.from_numpy_array(adjacency.T.astype(np.int8), create_using=kind)
        communities = nx.community.louvain_communities(drawn, seed=0)
        found.append(nx.community.modularity(drawn, communities) if drawn.size() else 0.0)
    return np.array(found, dtype=np.float64)
