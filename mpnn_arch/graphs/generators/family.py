"""The registry of graph generators, and how to call one by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from mpnn_arch.checks import kind_of
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.registry import Registry

Generator = Callable[..., RelationalGraph]

GENERATORS: Registry[Generator] = Registry("graph generator")


def generate(name: str, /, *args: Any, **params: Any) -> RelationalGraph:
    """The graph of the generator called ``name`` with these parameters.

    Raises:
        InputError: no such generator, an unknown or missing parameter, an invalid value, or a
            generator of your own that returns something else.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.generate("ws", num_nodes=16, degree=4, rewiring_probability=0.2, seed=0)
        >>> graph.num_nodes, graph.num_edges
        (16, 32)
    """
    generator = GENERATORS.get(name)
    try:
        _signature(generator).bind(*args, **params)
    except TypeError as error:
        raise InputError(
            f"{name} cannot be generated: {error}; its parameters are {name}{describe(name)}"
        ) from None
    graph = generator(*args, **params)
    if not isinstance(graph, RelationalGraph):
        raise InputError(
            f"the graph generator {name!r} returned {kind_of(graph)}, not a RelationalGraph: give "
            "a networkx graph to RelationalGraph.from_networkx"
        )
    return graph


@lru_cache(maxsize=256)
def _signature(generator: Generator) -> inspect.Signature:
    # A table of results names thousands of graphs of one family.
    return inspect.signature(generator)


def parameters_of(generator: Generator) -> Mapping[str, inspect.Parameter]:
    """The parameters of a generator by name, in order."""
    return _signature(generator).parameters


def list_generators() -> list[str]:
    """Names of all generators, sorted.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.list_generators()[:4]
        ['ba', 'complete', 'core_periphery', 'er']
    """
    return GENERATORS.names()


def describe(name: str) -> str:
    """The parameters of the generator called ``name``, as ``(num_nodes, degree=4, seed=0)``.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.describe("ring")
        '(num_nodes, degree=2)'
    """
    shown = [
        p.name if p.default is p.empty else f"{p.name}={p.default}"
        for p in parameters_of(GENERATORS.get(name)).values()
    ]
    return f"({', '.join(shown)})"


def is_seeded(name: str) -> bool:
    """Whether the family is random: the lattices, trees and the complete graph take no seed.

    Example:
        >>> from mpnn_arch.graphs.generators import is_seeded
        >>> is_seeded("ws_flex"), is_seeded("ring")
        (True, False)
    """
    return "seed" in parameters_of(GENERATORS.get(name))
