"""Families of relational graphs, one per file, selected by name."""

from mpnn_arch.graphs.generators.ba import ba
from mpnn_arch.graphs.generators.complete import complete
from mpnn_arch.graphs.generators.core_periphery import core_periphery
from mpnn_arch.graphs.generators.er import er
from mpnn_arch.graphs.generators.family import (
    GENERATORS,
    describe,
    generate,
    is_seeded,
    list_generators,
)
from mpnn_arch.graphs.generators.grid import grid
from mpnn_arch.graphs.generators.harary import harary
from mpnn_arch.graphs.generators.hypercube import hypercube
from mpnn_arch.graphs.generators.lfr import lfr
from mpnn_arch.graphs.generators.modular import modular
from mpnn_arch.graphs.generators.regular import regular
from mpnn_arch.graphs.generators.ring import ring
from mpnn_arch.graphs.generators.star import star
from mpnn_arch.graphs.generators.tree import tree
from mpnn_arch.graphs.generators.ws import ws
from mpnn_arch.graphs.generators.ws_flex import ws_flex
from mpnn_arch.graphs.generators.ws_flex_population import ws_flex_population

__all__ = [
    "GENERATORS",
    "ba",
    "complete",
    "core_periphery",
    "describe",
    "er",
    "generate",
    "grid",
    "harary",
    "hypercube",
    "is_seeded",
    "lfr",
    "list_generators",
    "modular",
    "regular",
    "ring",
    "star",
    "tree",
    "ws",
    "ws_flex",
    "ws_flex_population",
]
