"""Families of relational graphs, one a file, found by name."""

from mpnn_arch.graphs.generators.complete import complete
from mpnn_arch.graphs.generators.family import GENERATORS, describe, generate, list_generators
from mpnn_arch.graphs.generators.ring import ring
from mpnn_arch.graphs.generators.ws_flex import ws_flex

__all__ = [
    "GENERATORS",
    "complete",
    "describe",
    "generate",
    "list_generators",
    "ring",
    "ws_flex",
]
