"""Relational graphs: what they are, how they are made, and how they are measured.

None of it imports torch before a tensor is asked for.
"""

from mpnn_arch.graphs.connectomes import CONNECTOMES, connectome, connectome_measures
from mpnn_arch.graphs.generators import describe, generate, list_generators, ws_flex_population
from mpnn_arch.graphs.lists import (
    published,
    published_parameters,
    sample,
    sample_parameters,
)
from mpnn_arch.graphs.measures import GraphBatch, list_measures, measure, measure_weighted
from mpnn_arch.graphs.null_models import rewired
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.graphs.spec import parse, parse_one

__all__ = [
    "CONNECTOMES",
    "GraphBatch",
    "RelationalGraph",
    "connectome",
    "connectome_measures",
    "describe",
    "generate",
    "list_generators",
    "list_measures",
    "measure",
    "measure_weighted",
    "parse",
    "parse_one",
    "published",
    "published_parameters",
    "rewired",
    "sample",
    "sample_parameters",
    "ws_flex_population",
]
