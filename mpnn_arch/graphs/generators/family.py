"""The registry of graph generators, and how to call one by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from mpnn_arch.checks import (
    LARGEST_COUNT,
    check_bytes,
    check_range,
    check_whole,
    kind_of,
)
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.registry import Registry

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "GENERATORS",
    "TRIES",
    "check_edges",
    "check_isolated",
    "check_num_nodes",
    "check_range",
    "check_size",
    "check_whole",
    "connected",
    "describe",
    "generate",
    "is_seeded",
    "list_generators",
    "never_connected",
    "parameters_of",
]

TRIES = 100

# Nodes and edges of a graph that networkx draws: about a minute, and 10 GB.
_LARGEST_DRAWN = 20_000_000

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


def connected(
    draw: Callable[[Random], nx.Graph | None],
    seed: int,
    what: str,
    most_draws: int | None = None,
    advice: str = "ask for more edges",
) -> RelationalGraph:
    """The first connected graph that ``draw`` draws from one random stream, in 100 tries.

    Args:
        draw: draws a graph from the stream; None if this try failed.
        seed: of the stream.
        what: the family and its parameters, for the error message.
        most_draws: random numbers after which a try has failed; None where it always ends.
        advice: what makes a graph more likely, for the error message.

    Raises:
        InputError: the seed is not an integer, or none of the tries is connected.
    """
    import networkx as nx

    seed = check_whole("seed", seed, 0)
    stream = Random(seed) if most_draws is None else BoundedStream(seed)
    for _ in range(TRIES):
        if isinstance(stream, BoundedStream):
            stream.draws_left = most_draws or 0
        try:
            drawn = draw(stream)
        except TooManyDraws:
            continue
        if drawn is not None and nx.is_connected(drawn):
            ordered = nx.Graph()
            ordered.add_nodes_from(range(len(drawn)))
            ordered.add_edges_from(drawn.edges())
            return RelationalGraph.from_networkx(ordered)
    raise never_connected(what, seed, advice)


def never_connected(what: str, seed: int, advice: str = "ask for more edges") -> InputError:
    """The error of a seed with which no try gave a connected graph.

    Args:
        what: the family and its parameters.
        seed: of the tries.
        advice: what makes a graph more likely.
    """
    return InputError(
        f"{what} gave no connected graph with seed {seed} in {TRIES} tries; "
        f"{advice}, or change the seed"
    )


def check_num_nodes(num_nodes: Any, least: int = 2) -> int:
    """``num_nodes`` as an int, at least ``least`` and below 2^31.

    Raises:
        InputError: it is not an integer, too small or too large.
    """
    whole = check_whole("num_nodes", num_nodes, least)
    return check_whole("num_nodes", whole, least, LARGEST_COUNT)


def check_probability(name: str, value: Any) -> float:
    """``value`` as a float in [0, 1], and 0 where it is too small to differ from 0 in 1 - p.

    networkx divides by log(1 - p), which then is 0.

    Raises:
        InputError: it is not a number, or outside.
    """
    number = check_range(name, value, 0, 1)
    return number if 1 - number < 1 else 0.0


def check_size(family: str, num_nodes: float, num_edges: float) -> None:
    """Refuse a graph that networkx would take minutes to draw, or more memory than there is.

    Args:
        family: for the message.
        num_nodes, num_edges: of the graph, or of what is drawn on the way to it.

    Raises:
        InputError: more than 20 million nodes and edges together.
    """
    if num_nodes + num_edges > _LARGEST_DRAWN:
        raise InputError(
            f"{family} draws its graphs one edge at a time, at most {_LARGEST_DRAWN:,} nodes and "
            f"edges, not {num_nodes:,.0f} nodes and {num_edges:,.0f} edges; ask for fewer, or use "
            "ws_flex, ring, grid or tree"
        )
    check_bytes(
        f"{family} of {num_nodes:,.0f} nodes and {num_edges:,.0f} edges",
        int(250 * (num_nodes + 2 * num_edges)),
        "ask for fewer",
    )


def check_edges(family: str, num_nodes: int, num_edges: int) -> None:
    """Refuse a graph with more edges than there is memory for, before they are listed.

    Raises:
        InputError: naming the bytes.
    """
    check_bytes(
        f"{family} of {num_nodes:,} nodes and {num_edges:,} edges",
        40 * (num_nodes + 2 * num_edges),
        "ask for fewer",
    )


def check_isolated(family: str, expected: float) -> None:
    """Refuse parameters at which no try can be connected, because nodes are left without an edge.

    With K isolated nodes expected, a graph has none with a probability of about exp(-K): at 60, no
    number of tries that fits into a lifetime finds one.

    Args:
        family: and its parameters, for the message.
        expected: number of nodes without an edge.

    Raises:
        InputError: more than 60.
    """
    if expected > 60:
        raise InputError(
            f"{family} leaves about {expected:,.0f} nodes without an edge, so it is never "
            "connected; ask for more edges"
        )


class BoundedStream(Random):
    """``random.Random``, the same stream bit by bit, that gives up after a number of draws.

    Some algorithms of networkx draw until a condition holds, also where it never can.
    """

    draws_left: float = math.inf

    def random(self) -> float:
        """As ``random.Random.random``."""
        self._count()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """As ``random.Random.getrandbits``."""
        self._count()
        return super().getrandbits(k)

    def _count(self) -> None:
        self.draws_left -= 1
        if self.draws_left < 0:
            raise TooManyDraws


class TooManyDraws(Exception):
    """A :class:`BoundedStream` has given up."""
