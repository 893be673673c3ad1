"""The parser of graph specs such as ``ws_flex:64,8.5,0.1,0``, used by every command."""

from __future__ import annotations

from collections.abc import Callable

from mpnn_arch.checks import counted, meant, parse_number, parse_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.connectomes import connectome
from mpnn_arch.graphs.files import BY_SUFFIX
from mpnn_arch.graphs.generators.family import GENERATORS, describe, generate, parameters_of
from mpnn_arch.graphs.given import as_graph, parse_with
from mpnn_arch.graphs.lists import (
    WSFlexParameters,
    check_listed,
    listed_parameters,
    published_parameters,
    sample_parameters,
)
from mpnn_arch.graphs.null_models import rewired, rewired_to_clustering
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.registry import Registry

# Sources other than generators, by the name before the colon; each parses the text after it.
SOURCES: Registry[Callable[[str], list[RelationalGraph]]] = Registry("source of graphs")


@SOURCES.register("published")
def _published(rest: str) -> list[RelationalGraph]:
    return _picked("published", rest, published_parameters)


@SOURCES.register("sample")
def _sample(rest: str) -> list[RelationalGraph]:
    return _picked("sample", rest, sample_parameters)


@SOURCES.register("list")
def _list(rest: str) -> list[RelationalGraph]:
    return [one.make() for one in listed_parameters(rest)]


@SOURCES.register("connectome")
def _connectome(rest: str) -> list[RelationalGraph]:
    name, _, option = rest.partition(",")
    if option not in ("", "directed", "undirected"):
        raise InputError(
            f"connectome:{shown(rest)[1:-1]}: unknown option {shown(option)}; write "
            "connectome:NAME or connectome:NAME,undirected"
        )
    return [connectome(name, directed=option != "undirected")]


@SOURCES.register("file")
def _file(rest: str) -> list[RelationalGraph]:
    return [RelationalGraph.from_file(rest)]


# Null models of the graphs of another spec, by the name before the colon.
NULLS: dict[str, Callable[..., RelationalGraph]] = {
    "rewired": rewired,
    "rewired_to_clustering": rewired_to_clustering,
}


def split_null(source: str, rest: str) -> tuple[int, str]:
    """Seed and inner spec of ``rewired:SEED/SPEC``.

    Raises:
        InputError: one of them is missing, or the inner spec is a null model itself.
    """
    seed, _, inner = rest.partition("/")
    try:
        number = parse_whole(seed)
    except InputError:
        number = -1
    if number < 0 or not inner.strip():
        raise InputError(
            f"{shown(f'{source}:{rest}')} does not name a null model; write {source}:SEED/SPEC, as "
            f"in {source}:0/ws_flex:64,8.5,0.1,0"
        )
    if inner.strip().partition(":")[0] in NULLS:
        raise InputError(
            f"{shown(f'{source}:{rest}')} is a null model of a null model, which is one of the "
            "graph itself; name the graph"
        )
    return number, inner


def _register_null(source: str, make: Callable[..., RelationalGraph]) -> None:
    def parse_null(rest: str) -> list[RelationalGraph]:
        seed, inner = split_null(source, rest)
        return [make(graph, seed=seed) for graph in parse(inner)]

    SOURCES.register(source)(parse_null)


for _name, _make in NULLS.items():
    _register_null(_name, _make)


def _picked(
    source: str, rest: str, parameters: Callable[[int, int], list[WSFlexParameters]]
) -> list[RelationalGraph]:
    parts = rest.split("/")
    text = shown(f"{source}:{rest}")[1:-1]
    try:
        num_nodes, count = (parse_whole(part) for part in parts[:2])
        ends = [parse_whole(end) if end else None for end in ":".join(parts[2:]).split(":")]
        if len(parts) > 3 or len(ends) > 2:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{text} does not name a list; write {source}:64/52, {source}:64/52/17 for "
            f"one graph, or {source}:64/52/0:6 for a slice"
        ) from None
    # All checks come before the list is read, which may be a download.
    check_listed(source, num_nodes, count)
    if len(parts) == 2:
        places = slice(None)
    elif len(ends) == 2:
        places = slice(*ends)
        if not range(count)[places]:
            raise InputError(f"{text} is an empty slice of {counted(count, 'graph')}; widen it")
    else:
        index = ends[0]
        if index is None or not 0 <= index < count:
            raise InputError(f"{text}: the graphs are numbered 0 to {count - 1}; pick one")
        places = slice(index, index + 1)
    return [one.make() for one in parameters(num_nodes, count)[places]]


def parse(spec: str) -> list[RelationalGraph]:
    """The graphs that ``spec`` names, in order.

    ==============================  ===========================================================
    ``ws_flex:64,8.5,0.1,0``        a generator and its parameters, in order
    ``ws_flex:64,8.5,0.1,seed=0``   or by name
    ``published:64/3942``           a list of the paper, by nodes and graphs
    ``published:64/3942/17``        one of its graphs, counted from 0
    ``sample:64/52/0:6``            a slice of our own list of 52
    ``list:sweep/sample.csv``       WS-flex graphs by their parameters, as ``mpnn-arch graphs
                                    sample`` writes them
    ``connectome:cat_cortex``       a biological network, directed as it was measured
    ``file:brain.csv``              see ``RelationalGraph.from_file``
    ``rewired:0/ws_flex:64,8,0.1``  null models of another spec's graphs, with a seed: equal degrees
                                    (``graphs.rewired``), or with ``rewired_to_clustering:`` equal
                                    degrees and clustering
    ==============================  ===========================================================

    Raises:
        InputError: an unknown name, or parameters that cannot be parsed.

    Example:
        >>> from mpnn_arch import graphs
        >>> [graph.num_edges for graph in graphs.parse("sample:64/52/0:3")]
        [304, 307, 439]
    """
    if not isinstance(spec, str):
        raise InputError(f"a graph spec is text, not {shown(spec)}; write ws_flex:64,8.5,0.1,0")
    name, colon, rest = spec.strip().partition(":")
    if name in SOURCES:
        if not rest:
            raise InputError(f"{shown(spec)} does not name a graph; add what follows {name}:")
        return SOURCES.get(name)(rest)
    if name not in GENERATORS:
        choices = [*GENERATORS.names(), *SOURCES.names()]
        raise InputError(
            f"{shown(spec)} is not a graph spec{meant(name, choices)}: it starts with one of "
            f"{', '.join(choices)}, as in {_example(spec)}"
        )
    if not colon or not rest:
        raise InputError(f"{spec!r} lacks parameters; write {name}: followed by {describe(name)}")
    return [_generated(name, rest, spec)]


def _example(spec: str) -> str:
    """A specification like what was meant: a file is named by its path alone at times."""
    if any(spec.lower().endswith(suffix) for suffix in BY_SUFFIX):
        return shown(f"file:{spec}")
    return "ws_flex:64,8.5,0.1,0"


def parse_one(spec: str) -> RelationalGraph:
    """The one graph that ``spec`` names.

    Raises:
        InputError: as :func:`parse`, or the spec names several.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.parse_one("ring:8,4") == graphs.ring(8, 4)
        True
    """
    if not isinstance(spec, str):
        parse(spec)  # raises
    return as_graph(spec)


parse_with(parse)


def _generated(name: str, rest: str, spec: str) -> RelationalGraph:
    args: list[int | float] = []
    params: dict[str, int | float] = {}
    known = parameters_of(GENERATORS.get(name))
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if equals:
            if key.strip() not in known:
                raise InputError(
                    f"{shown(spec)}: {name} has no parameter {shown(key.strip())}, only "
                    f"{describe(name)}"
                )
            if key.strip() in params:
                raise InputError(f"{shown(spec)} gives {key.strip()} twice; give it once")
            params[key.strip()] = _number(value, spec)
        elif params:
            raise InputError(f"{shown(spec)}: {shown(part)} follows a named parameter; name it too")
        else:
            args.append(_number(part, spec))
    return generate(name, *args, **params)


def _number(text: str, spec: str) -> int | float:
    for parse_text in (parse_whole, parse_number):
        try:
            return parse_text(text)
        except InputError:
            continue
    raise InputError(
        f"{shown(spec)}: {shown(text.strip())} is not a number; write one in at most 18 digits 0 "
        "to 9, as in ring:64,4"
    )
