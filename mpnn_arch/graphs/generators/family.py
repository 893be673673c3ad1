"""The registry of graph generators, and how to call one by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.registry import Registry

if TYPE_CHECKING:
    import networkx as nx

TRIES = 100

Generator = Callable[..., RelationalGraph]

GENERATORS: Registry[Generator] = Registry("graph generator")


def generate(name: str, /, *args: Any, **params: Any) -> RelationalGraph:
    """The graph of the generator called ``name`` with these parameters.

    Raises:
        InputError: no such generator, an unknown or missing parameter, or an invalid value.
    """
    generator = GENERATORS.get(name)
    signature = inspect.signature(generator)
    try:
        signature.bind(*args, **params)
    except TypeError as error:
        raise InputError(
            f"{name} cannot be generated: {error}; its parameters are {name}{describe(name)}"
        ) from None
    return generator(*args, **params)


def list_generators() -> list[str]:
    """Names of all generators, sorted."""
    return GENERATORS.names()


def describe(name: str) -> str:
    """The parameters of the generator called ``name``, as ``(num_nodes, degree=4, seed=0)``."""
    shown = [
        p.name if p.default is p.empty else f"{p.name}={p.default}"
        for p in inspect.signature(GENERATORS.get(name)).parameters.values()
    ]
    return f"({', '.join(shown)})"


def is_seeded(name: str) -> bool:
    """Whether the family is random: the lattices, trees and the complete graph take no seed."""
    return "seed" in inspect.signature(GENERATORS.get(name)).parameters


def connected(draw: Callable[[Random], nx.Graph | None], seed: int, what: str) -> RelationalGraph:
    """The first connected graph that ``draw`` draws from one random stream, in 100 tries.

    Args:
        draw: draws a graph from the stream; None if this try failed.
        seed: of the stream.
        what: the family and its parameters, for the error message.

    Raises:
        InputError: the seed is not an integer, or none of the tries is connected.
    """
    import networkx as nx

    stream = Random(check_whole("seed", seed, 0))
    for _ in range(TRIES):
        drawn = draw(stream)
        if drawn is not None and nx.is_connected(drawn):
            ordered = nx.Graph()
            ordered.add_nodes_from(range(len(drawn)))
            ordered.add_edges_from(drawn.edges())
            return RelationalGraph.from_networkx(ordered)
    raise InputError(
        f"{what} gave no connected graph with seed {seed} in {TRIES} tries; "
        "ask for more edges, or change the seed"
    )


def check_num_nodes(num_nodes: Any, least: int = 2) -> int:
    """``num_nodes`` as an int, at least ``least``.

    Raises:
        InputError: it is not an integer, or too small.
    """
    return check_whole("num_nodes", num_nodes, least)


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """``value`` as an int in [least, most].

    Raises:
        InputError: it is not an integer, or outside.
    """
    limit = f"at least {least}" if most is None else f"between {least} and {most}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        whole = value.__index__()
    except AttributeError:
        raise InputError(f"{name} is an integer {limit}, {value!r} was given; change it") from None
    if whole < least or (most is not None and whole > most):
        raise InputError(f"{name} is {limit}, {whole} was given; choose a value in that range")
    return int(whole)


def check_range(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float in [low, high].

    Raises:
        InputError: it is not a number, or outside.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} is a number between {low:g} and {high:g}, {value!r} was given; change it"
        ) from None
    if math.isnan(number) or not low <= number <= high:
        raise InputError(
            f"{name} lies between {low:g} and {high:g}, {number:g} was given; "
            "choose a value in that range"
        )
    return number
