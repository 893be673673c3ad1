"""Relational graphs: what they are, how they are made, and how they are measured.

None of it imports torch before a tensor is asked for.
"""

from mpnn_arch.graphs.generators import (
    complete,
    describe,
    generate,
    list_generators,
    ring,
    ws_flex,
)
from mpnn_arch.graphs.measures import GraphBatch
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.graphs.spec import parse, parse_one

__all__ = [
    "GraphBatch",
    "RelationalGraph",
    "complete",
    "describe",
    "generate",
    "list_generators",
    "parse",
    "parse_one",
    "ring",
    "ws_flex",
]
