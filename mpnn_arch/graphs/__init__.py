"""Relational graphs: the data type, its generators and its measures.

Torch is imported only when a tensor is requested.
"""

from mpnn_arch.graphs.bins import PAPER_BINS, Bins, coverage, subsample
from mpnn_arch.graphs.connectomes import CONNECTOMES, connectome, connectome_measures
from mpnn_arch.graphs.design_space import paper_grid, sweep_design_space
from mpnn_arch.graphs.generators import (
    ba,
    complete,
    core_periphery,
    describe,
    er,
    generate,
    grid,
    harary,
    hypercube,
    lfr,
    list_generators,
    modular,
    regular,
    ring,
    star,
    tree,
    ws,
    ws_flex,
    ws_flex_population,
)
from mpnn_arch.graphs.lists import (
    published,
    published_parameters,
    sample,
    sample_parameters,
)
from mpnn_arch.graphs.measures import GraphBatch, list_measures, measure, measure_weighted
from mpnn_arch.graphs.null_models import rewired, rewired_to_clustering
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.graphs.spec import parse, parse_one

__all__ = [
    "CONNECTOMES",
    "PAPER_BINS",
    "Bins",
    "GraphBatch",
    "RelationalGraph",
    "ba",
    "complete",
    "connectome",
    "connectome_measures",
    "core_periphery",
    "coverage",
    "describe",
    "er",
    "generate",
    "grid",
    "harary",
    "hypercube",
    "lfr",
    "list_generators",
    "list_measures",
    "measure",
    "measure_weighted",
    "modular",
    "paper_grid",
    "parse",
    "parse_one",
    "published",
    "published_parameters",
    "regular",
    "rewired",
    "rewired_to_clustering",
    "ring",
    "sample",
    "sample_parameters",
    "star",
    "subsample",
    "sweep_design_space",
    "tree",
    "ws",
    "ws_flex",
    "ws_flex_population",
]
