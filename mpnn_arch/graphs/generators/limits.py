"""Checks of a family's parameters: their ranges, and graphs that cannot be drawn."""

from __future__ import annotations

from typing import Any

from mpnn_arch.checks import LARGEST_COUNT, check_bytes, check_range, check_whole
from mpnn_arch.errors import InputError

# Nodes and edges of a graph that networkx draws: about a minute, and 10 GB.
_LARGEST_DRAWN = 20_000_000


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
