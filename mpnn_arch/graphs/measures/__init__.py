"""Measures of relational graphs, over many graphs at once, found by name."""

from mpnn_arch.graphs.measures.batch import GraphBatch
from mpnn_arch.graphs.measures.clustering import clustering_coefficient
from mpnn_arch.graphs.measures.path_length import average_path_length
from mpnn_arch.graphs.measures.registry import MEASURES, list_measures

__all__ = [
    "MEASURES",
    "GraphBatch",
    "average_path_length",
    "clustering_coefficient",
    "list_measures",
]
