"""Graphs of a study by canonical names: one graph, one name, from which its parameters are read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import parse
from mpnn_arch.graphs.generators import GENERATORS
from mpnn_arch.graphs.lists import (
    WSFlexParameters,
    listed_parameters,
    published_parameters,
    sample_parameters,
)
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.graphs.spec import NULLS, split_null
from mpnn_arch.studies.ledger import Ledger

_LISTS = {"published": published_parameters, "sample": sample_parameters}


def expand(specs: Sequence[str]) -> dict[str, RelationalGraph]:
    """The graphs that ``specs`` name, each under a specification of its own.

    A list such as ``sample:64/52`` becomes the ``ws_flex`` calls that make its graphs, and a
    generator's parameters are written in order, so that a graph has the same name however it was
    asked for. A graph that two of the specifications name is there once.

    Raises:
        InputError: a specification that names no graph.
    """
    made: dict[str, RelationalGraph] = {}
    for spec in specs:
        found = parse(spec)
        for name, graph in zip(names(spec, len(found)), found, strict=True):
            made.setdefault(name, graph)
    return made


def without_files(specs: Sequence[str]) -> tuple[str, ...]:
    """``specs`` with the names of its graphs in the place of every list in a file.

    Raises:
        InputError: as :func:`expand`, of such a list.
    """
    given = (expand([spec]) if _is_listed(spec) else [spec] for spec in specs)
    return tuple(dict.fromkeys(name for several in given for name in several))


def file_of(spec: str) -> Path | None:
    """The file that holds the graph of ``spec``, or that of which it is a null model."""
    source, _, rest = spec.strip().partition(":")
    if source in NULLS:
        return file_of(split_null(source, rest)[1])
    return Path(rest) if source == "file" else None


def graph_of(num_nodes: int, bits: bytes) -> RelationalGraph:
    """The graph that the ledger keeps as bits of its adjacency, row by row."""
    ones = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=num_nodes**2)
    return RelationalGraph.from_adjacency(
        ones.reshape(num_nodes, num_nodes), directed=True, self_loops=False
    )


def graph_hashes(ledger: Ledger) -> dict[str, str]:
    """The content hash of every graph of the ledger's trials, by its name."""
    rows = ledger.query("SELECT DISTINCT graph, graph_hash FROM trial")
    return {row["graph"]: row["graph_hash"] for row in rows}


def kept_graphs(ledger: Ledger, names: Iterable[str]) -> dict[str, RelationalGraph]:
    """Those of the graphs called ``names`` that the ledger keeps."""
    wanted = set(names)
    if not wanted:
        return {}
    kept = {name: hash for name, hash in graph_hashes(ledger).items() if name in wanted}
    rows = {
        name: row
        for name, hash in kept.items()
        for row in ledger.query("SELECT * FROM graph WHERE hash = ?", hash)
    }
    return {name: graph_of(row["num_nodes"], row["adjacency"]) for name, row in rows.items()}


def _is_listed(spec: str) -> bool:
    source, _, rest = spec.strip().partition(":")
    return source == "list" or (source in NULLS and _is_listed(split_null(source, rest)[1]))


def family_and_parameters(name: str) -> tuple[str, dict[str, Any]]:
    """``("ws_flex", {"num_nodes": 64, ...})`` of a canonical name; no parameters of a file."""
    family, _, rest = name.partition(":")
    if family not in GENERATORS:
        return family, {}
    try:
        known = inspect.signature(GENERATORS.get(family)).parameters
        return family, dict(zip(known, map(_number, rest.split(",")), strict=True))
    except ValueError:
        return family, {}


def names(spec: str, count: int) -> list[str]:
    """A canonical name for each of the ``count`` graphs of a specification that names graphs.

    Raises:
        InputError: it is one of your own, of several graphs that have no names.
    """
    spec = spec.strip()
    source, _, rest = spec.partition(":")
    if source in NULLS:
        seed, inner = split_null(source, rest)
        return [f"{source}:{seed}/{name}" for name in names(inner, count)]
    if source in _LISTS:
        return [_ws_flex(one) for one in _picked(source, rest)]
    if source == "list":
        return [_ws_flex(one) for one in listed_parameters(rest)]
    if source in GENERATORS:
        return [_generated(source, rest, spec)]
    if count == 1:
        return [spec]
    raise InputError(f"the graph {spec!r} names {count} graphs without names; give each by itself")


def _picked(source: str, rest: str) -> list[WSFlexParameters]:
    """The calls behind a list, an element or a slice of it; ``parse`` has checked the text."""
    nodes, count, *which = rest.split("/")
    listed = _LISTS[source](int(nodes), int(count))
    if not which:
        return listed
    ends = [int(end) if end else None for end in which[0].split(":")]
    return listed[slice(*ends)] if len(ends) == 2 else [listed[int(which[0])]]


def _ws_flex(one: WSFlexParameters) -> str:
    values = (one.num_nodes, one.average_degree, one.rewiring_probability, one.seed)
    return "ws_flex:" + ",".join(map(_text, values))


def _generated(family: str, rest: str, spec: str) -> str:
    args: list[Any] = []
    named: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if equals:
            named[key.strip()] = _number(value)
        else:
            args.append(_number(part))
    bound = inspect.signature(GENERATORS.get(family)).bind(*args, **named)
    bound.apply_defaults()
    values = list(bound.arguments.values())
    if not all(isinstance(value, int | float) for value in values):
        return spec
    return f"{family}:" + ",".join(map(_text, values))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
