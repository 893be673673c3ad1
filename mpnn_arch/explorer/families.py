"""The families of graphs that the page offers, and a slider for each of their parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import NamedTuple

from mpnn_arch.graphs.generators.family import GENERATORS, list_generators
from mpnn_arch.registry import first_line


class Range(NamedTuple):
    """What a slider goes through, and where it begins."""

    start: float
    stop: float
    step: float
    value: float


# By the name of a parameter, in every family that has it.
RANGES = {
    "num_nodes": Range(4, 64, 1, 16),
    "num_edges": Range(4, 512, 1, 40),
    "average_degree": Range(2, 63, 0.5, 4),
    "degree": Range(2, 63, 1, 4),
    "edges_per_node": Range(1, 16, 1, 2),
    "rewiring_probability": Range(0, 1, 0.05, 0.3),
    "branching": Range(1, 8, 1, 2),
    "num_modules": Range(1, 8, 1, 4),
    "within_probability": Range(0, 1, 0.05, 0.9),
    "between_probability": Range(0, 1, 0.05, 0.1),
    "core_size": Range(1, 32, 1, 5),
    "core_probability": Range(0, 1, 0.05, 0.9),
    "periphery_probability": Range(0, 1, 0.05, 0.05),
    "cross_probability": Range(0, 1, 0.05, 0.3),
    "mixing": Range(0, 1, 0.05, 0.2),
    "seed": Range(0, 20, 1, 0),
}


# The families in the words of someone who has not met them.
ABOUT = {
    "ba": "Nodes come one by one and link to those that have many links: a few become hubs.",
    "complete": "Every node with every other: the dense layer.",
    "core_periphery": "A core of nodes that are mostly linked; others around it have few links.",
    "er": "So many edges, anywhere at random.",
    "grid": "Rows and columns, each node linked to its neighbours in both.",
    "harary": "So many edges, placed so that most nodes have to go before the graph falls apart.",
    "hypercube": "The corners and edges of a cube in many dimensions; a power of two of nodes.",
    "lfr": "Communities of several sizes; mixing is the share of edges that leave them.",
    "modular": "Groups of equal size, with many edges inside and few between them.",
    "regular": "Every node has the same number of neighbours, drawn at random.",
    "ring": "A circle, each node linked to the nearest ones.",
    "star": "One node linked to all others.",
    "tree": "Every node has as many children as branching says; no circles.",
    "ws": "A circle of nearest neighbours, of whose edges some are moved: a small world.",
    "ws_flex": "A circle of which some edges are moved, of any average degree: the paper's family.",
}


def families() -> list[str]:
    """The paper's own family first, then all whose parameters have a slider or a default."""

    def has_sliders(name: str) -> bool:
        parameters = inspect.signature(GENERATORS.get(name)).parameters.values()
        return all(p.name in RANGES or p.default is not p.empty for p in parameters)

    first = "ws_flex"
    return [first, *(name for name in list_generators() if name != first and has_sliders(name))]


def about(family: str) -> str:
    """The family in a sentence."""
    return ABOUT.get(family) or first_line(GENERATORS.get(family))


def parameters(family: str) -> dict[str, Range]:
    """The sliders of a family by parameter; the others keep their defaults."""
    names = inspect.signature(GENERATORS.get(family)).parameters
    return {name: RANGES[name] for name in names if name in RANGES}


def on_sliders(text: str) -> tuple[str, dict[str, float]] | None:
    """The family and the values of which :func:`spec` makes ``text``; None where no sliders do."""
    family, _, given = text.partition(":")
    if family not in families():
        return None
    ranges = parameters(family)
    try:
        numbers = [float(part.rpartition("=")[2]) for part in given.split(",")]
        whole = [int(number) if number.is_integer() else number for number in numbers]
        values = dict(zip(ranges, whole, strict=True))
    except ValueError:
        return None
    fits = all(ranges[name].start <= value <= ranges[name].stop for name, value in values.items())
    return (family, values) if fits and spec(family, values) == text else None


def label(parameter: str) -> str:
    """``num_nodes`` as a reader says it: nodes."""
    return parameter.removeprefix("num_").replace("_", " ")


def spec(family: str, values: Mapping[str, float]) -> str:
    """The specification of a graph, such as ``ws_flex:16,4,0.1,0``."""
    order = list(inspect.signature(GENERATORS.get(family)).parameters)
    in_order = order[: len(values)] == list(values)
    texts = [f"{value:g}" if in_order else f"{name}={value:g}" for name, value in values.items()]
    return f"{family}:{','.join(texts)}"
