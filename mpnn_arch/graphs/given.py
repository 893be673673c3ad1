"""A graph as a caller gives it: the object, or a specification such as ``"ring:16,4"``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph

GivenGraph = RelationalGraph | str
"""A graph, or the specification of one, see :func:`mpnn_arch.graphs.parse`."""


def as_graph(graph: Any, hint: str = "") -> RelationalGraph:
    """``graph``, or the one that a specification names.

    Args:
        graph: what the caller gave.
        hint: what to add to the error for anything else.

    Raises:
        InputError: neither, or a specification that does not name exactly one graph.
    """
    if isinstance(graph, RelationalGraph):
        return graph
    if isinstance(graph, str):
        return _parse(graph, one=True)[0]
    raise InputError(
        f"a graph is a RelationalGraph or a specification such as 'ring:16,4', not {shown(graph)}; "
        f"{_conversion(graph) or _listed(graph) or hint or 'use a generator of mpnn_arch.graphs'}"
    )


def as_graphs(graphs: Any) -> list[RelationalGraph]:
    """The graphs of a graph, of a specification that may name several, or of a list of either.

    Raises:
        InputError: anything else.
    """
    if isinstance(graphs, str):
        return _parse(graphs, one=False)
    if isinstance(graphs, RelationalGraph | bytes | Mapping) or _conversion(graphs):
        return [as_graph(graphs)]
    try:
        listed = list(graphs)
    except (TypeError, RuntimeError):  # not iterable, as a tensor of one number
        return [as_graph(graphs)]
    return [as_graph(graph) for graph in listed]


def as_named_graphs(graphs: Mapping[str, Any]) -> dict[str, RelationalGraph]:
    """Graphs by name, each an object or a specification.

    Raises:
        InputError: no mapping, or one of anything else.
    """
    if not isinstance(graphs, Mapping):
        raise InputError(f"graphs are a dict of names and graphs, not {shown(graphs)}; give one")
    return {name: as_graph(graph) for name, graph in graphs.items()}


def _conversion(given: Any) -> str | None:
    """How to make a graph of another library's; None for what is none."""
    if any(kind.__module__.partition(".")[0] == "networkx" for kind in type(given).__mro__):
        return "convert it by RelationalGraph.from_networkx"
    if hasattr(given, "edge_index"):
        return "convert it by RelationalGraph.from_edge_index(data.edge_index, data.num_nodes)"
    shape: Any = getattr(given, "shape", ())
    if len(shape) == 2 and shape[0] == 2 != shape[1]:
        return "convert it by RelationalGraph.from_edge_index"
    if len(shape) == 2:
        return "convert it by RelationalGraph.from_adjacency, or edges by from_edge_index"
    return None


def _listed(given: Any) -> str | None:
    """How to make a graph of pairs of nodes, or of the neighbours of each."""
    if isinstance(given, list | tuple | set | Mapping) and given:
        return "make one of edges by RelationalGraph.from_networkx(networkx.Graph(edges))"
    return None


def parse_with(parser: Callable[[str], list[RelationalGraph]]) -> None:
    """Set the parser of specifications.

    It imports every generator and measure, and these accept specifications too: importing it here
    would close a circle.
    """
    _PARSER.append(parser)


_PARSER: list[Callable[[str], list[RelationalGraph]]] = []


def _parse(spec: str, *, one: bool) -> list[RelationalGraph]:
    found = _PARSER[-1](spec)
    if one and len(found) != 1:
        raise InputError(
            f"{shown(spec)} names {len(found)} graphs where one is needed; pick one of them"
        )
    return found
