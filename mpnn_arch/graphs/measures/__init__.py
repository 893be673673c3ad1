"""Measures of relational graphs, computed over batches and selected by name."""

from mpnn_arch.graphs.measures import (
    betweenness,
    clustering,
    core,
    curvature,
    degree,
    modularity,
    path_length,
    random_walk,
    small_world,
    spectral,
)
from mpnn_arch.graphs.measures.batch import GraphBatch
from mpnn_arch.graphs.measures.clustering import clustering_coefficient, local_clustering
from mpnn_arch.graphs.measures.path_length import average_path_length
from mpnn_arch.graphs.measures.registry import MEASURES, list_measures
from mpnn_arch.graphs.measures.table import measure
from mpnn_arch.graphs.measures.weighted import measure_weighted

__all__ = [
    "MEASURES",
    "GraphBatch",
    "average_path_length",
    "betweenness",
    "clustering",
    "clustering_coefficient",
    "core",
    "curvature",
    "degree",
    "list_measures",
    "local_clustering",
    "measure",
    "measure_weighted",
    "modularity",
    "path_length",
    "random_walk",
    "small_world",
    "spectral",
]
