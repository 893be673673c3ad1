"""The graph of each layer: one for all, or one by the layer's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.given import GivenGraph, as_graph

GraphRule = (
    GivenGraph | Mapping[str, GivenGraph | None] | Callable[[str, nn.Module], GivenGraph | None]
)
"""A graph or its spec; name patterns and their graphs; or a function of name and layer."""


def assign_graphs(
    rule: GraphRule, layers: Mapping[str, nn.Module]
) -> dict[str, RelationalGraph | None]:
    """The graph of every layer; None for one that stays dense.

    Args:
        rule: a graph or a graph spec for all layers; a dict of name patterns (``*``, ``?`` and
            ``[...]``, see :mod:`fnmatch`), of which the first that fits counts; or a function
            (name, layer) -> graph, spec or None.
        layers: by name.

    Raises:
        InputError: something else, or a pattern that fits no layer.
    """
    if isinstance(rule, Mapping):
        return _by_pattern(rule, layers)
    if callable(rule) and not isinstance(rule, type):
        _check_function(rule)
        return {name: _graph(rule(name, layer)) for name, layer in layers.items()}
    if rule is None:
        raise InputError("the graph is None; give a RelationalGraph or a spec such as 'ring:16'")
    one = _graph(rule)
    return dict.fromkeys(layers, one)


def _by_pattern(
    rule: Mapping[str, Any], layers: Mapping[str, nn.Module]
) -> dict[str, RelationalGraph | None]:
    graphs = {}
    for pattern, given in rule.items():
        if not isinstance(pattern, str):
            raise InputError(f"a pattern of layer names is text, not {shown(pattern)}; give text")
        graphs[pattern] = _graph(given)
        if not any(fnmatchcase(name, pattern) for name in layers):
            example = next(iter(layers), "")
            raise InputError(
                f"no dense layer is called {shown(pattern)}; give a pattern such as {example!r}"
            )
    if not graphs:
        raise InputError("the dict of graphs is empty; give one as {'*': graph}")
    return {
        name: next((g for pattern, g in graphs.items() if fnmatchcase(name, pattern)), None)
        for name in layers
    }


def _check_function(rule: Callable[..., Any]) -> None:
    try:
        inspect.signature(rule).bind("name", nn.Identity())
    except (TypeError, ValueError):
        raise InputError(
            f"a function that gives graphs takes the name of a layer and the layer, and "
            f"{shown(rule)} does not; write lambda name, layer: graph"
        ) from None


def _graph(given: Any) -> RelationalGraph | None:
    return None if given is None else as_graph(given)
