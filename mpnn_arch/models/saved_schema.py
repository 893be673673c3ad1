"""What the metadata of a saved model may hold: checked before anything is built from them.

A file can be forged, and its checksum with it. Here its text becomes values of known types and
ranges, and every size in it is compared with the number of bytes in the file: what is built must
fit what was stored.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.kernels import backends
from mpnn_arch.models.init import INITS
from mpnn_arch.models.registry import MODELS
from mpnn_arch.partition import Order

_ENTRIES = {"kind", "config", "graphs", "backend_choices"}

# Settings of every model beside those of its kind, and their types.
_BUILD: dict[str, Any] = {
    "model": str,
    "widths": list[int],
    "seed": int | None,
    "init": Literal[INITS],  # type: ignore[valid-type]
    "order": Order,
    "backend": str | None,
    "message": str | None,
    "aggr": str | list[str],
    "message_kwargs": dict[str, Any] | None,
    "aggr_kwargs": dict[str, Any] | None,
}

# Building takes about this many bytes per pair of nodes: the adjacency matrix, and the table of
# the rounds' cost with its Python integers.
_BYTES_PER_PAIR = 48
_SMALL = 2**30
"""Bytes that building may take whatever the size of the file."""
_RATIO = 64
"""Bytes that building may take for every byte of the file beyond."""

_MODEL, _GRAPH = "model/", "graph/"


@dataclass(frozen=True)
class SavedModel:
    """The checked content of a file.

    Attributes:
        config: arguments of ``build``, and the name under ``"model"``.
        graphs: the relational graphs.
        weights: the state dict.
        backend_choices: by round, then by shape.
    """

    config: dict[str, Any]
    graphs: tuple[RelationalGraph, ...]
    weights: dict[str, Tensor]
    backend_choices: dict[str, dict[str, str]]


def check_saved(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SavedModel:
    """The content of a saved model, checked.

    Args:
        tensors: of the file, by name.
        metadata: of the file.

    Raises:
        InputError: an entry that is missing, unknown, of another type or out of its range, a graph
            other than its hash says, or a model that needs far more memory than the file has bytes.
    """
    graphs, weights = _graphs_and_weights(tensors, metadata, _ENTRIES)
    config = _config(_parse(metadata, "config", dict[str, Any]), weights)
    choices = _parse(metadata, "backend_choices", dict[str, dict[str, str]])
    for chosen in choices.values():
        for backend in chosen.values():
            backends.check_name(backend)
    return SavedModel(config, graphs, weights, choices)


@dataclass(frozen=True)
class SavedLayers:
    """The checked content of the file of a relationalized model.

    Attributes:
        layers: the name of each relational layer, and the number of its graph.
        graphs: the relational graphs.
        order: of the channel partitions.
        backend: of the rounds.
        weights: the state dict.
        backend_choices: by round, then by shape.
    """

    layers: dict[str, int]
    graphs: tuple[RelationalGraph, ...]
    order: str
    backend: str
    weights: dict[str, Tensor]
    backend_choices: dict[str, dict[str, str]]


def check_saved_layers(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SavedLayers:
    """The content of a saved relationalized model, checked; arguments as of :func:`check_saved`.

    Raises:
        InputError: as :func:`check_saved`, or a layer of a graph that is not in the file.
    """
    known = (_ENTRIES - {"config"}) | {"layers", "order", "backend"}
    graphs, weights = _graphs_and_weights(tensors, metadata, known)
    layers = _parse(metadata, "layers", dict[str, int])
    for name, number in layers.items():
        if not 0 <= number < len(graphs):
            raise InputError(
                f"its layer {shown(name)} has graph {shown(number)}, and it holds {len(graphs)}"
            )
    choices = _parse(metadata, "backend_choices", dict[str, dict[str, str]])
    backend = _parse(metadata, "backend", str)
    used = [backend, *(one for chosen in choices.values() for one in chosen.values())]
    for one in used:
        if one != "auto":
            backends.check_name(one)
    order = _parse(metadata, "order", Order)
    return SavedLayers(layers, graphs, order, backend, weights, choices)


def describe_graphs(
    graphs: Sequence[RelationalGraph],
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The edges of ``graphs`` by their names in a file, and its metadata's entry ``graphs``."""
    edges = {f"{_GRAPH}{number}": graph.edge_index for number, graph in enumerate(graphs)}
    return edges, [{"num_nodes": g.num_nodes, "content_hash": g.content_hash} for g in graphs]


def _graphs_and_weights(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], known: set[str]
) -> tuple[tuple[RelationalGraph, ...], dict[str, Tensor]]:
    """The graphs and the state dict of a file whose metadata have no entries but these."""
    unknown = sorted(set(metadata) - known)
    if unknown:
        raise InputError(f"its metadata hold an unknown entry {shown(unknown[0])}")
    stray = sorted(k for k in tensors if not k.startswith((_MODEL, _GRAPH)))
    if stray:
        raise InputError(f"it holds a tensor {shown(stray[0])}, which no model has")
    graphs = _graphs(
        _parse(metadata, "graphs", list[dict[str, Any]]),
        {k.removeprefix(_GRAPH): v for k, v in tensors.items() if k.startswith(_GRAPH)},
        sum(value.nbytes for value in tensors.values()),
    )
    weights = {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}
    return graphs, weights


def _graphs(
    entries: list[dict[str, Any]], edges: Mapping[str, Tensor], num_bytes: int
) -> tuple[RelationalGraph, ...]:
    if sorted(edges) != sorted(str(number) for number in range(len(entries))):
        raise InputError(
            f"it describes {len(entries)} graphs and holds the edges of {len(edges)}: "
            f"{shown(sorted(edges))}"
        )
    return tuple(
        _graph(entry, edges[str(number)], num_bytes) for number, entry in enumerate(entries)
    )


def _graph(entry: dict[str, Any], edges: Tensor, num_bytes: int) -> RelationalGraph:
    if sorted(entry) != ["content_hash", "num_nodes"]:
        raise InputError(f"a graph has num_nodes and content_hash, not {shown(sorted(entry))}")
    num_nodes, digest = entry["num_nodes"], entry["content_hash"]
    if not _fits(num_nodes, int) or not _fits(digest, str):
        raise InputError(f"the graph {shown(entry)} is not a number of nodes and a hash")
    if edges.dtype != torch.int64 or edges.dim() != 2 or edges.shape[0] != 2:
        raise InputError(
            f"the edges of a graph are (2, E) int64, not {tuple(edges.shape)} {edges.dtype}"
        )
    # Every node receives at least one message.
    if not 1 <= num_nodes <= edges.shape[1]:
        raise InputError(
            f"a graph of {shown(num_nodes)} nodes needs at least 1 node and an edge into each, "
            f"and it has {edges.shape[1]} edges"
        )
    needed = _BYTES_PER_PAIR * num_nodes**2
    if needed > _SMALL + _RATIO * num_bytes:
        raise InputError(
            f"a graph of {num_nodes:,} nodes takes {needed:,} bytes, and the file has {num_bytes:,}"
        )
    graph = RelationalGraph(num_nodes, edges, directed=True, self_loops=False)
    if graph.content_hash != digest:
        raise InputError(
            f"its graph is another than was saved (hash={graph.content_hash[:8]}, saved "
            f"{shown(digest[:8])})"
        )
    return graph


def _config(config: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    if not isinstance(config.get("model"), str):
        raise InputError(f"its configuration names no model ({shown(config.get('model'))})")
    kind = MODELS.get(config["model"])
    own = {field.name for field in dataclasses.fields(kind)}
    types_of = {name: hint for name, hint in get_type_hints(kind).items() if name in own} | _BUILD
    if "widths" not in config:
        raise InputError("its configuration has no widths")
    elements = sum(value.numel() for value in weights.values())
    for name, value in config.items():
        if name not in types_of:
            raise InputError(f"its configuration has an unknown setting {shown(name)}")
        if not _fits(value, types_of[name]):
            raise InputError(f"its {name} is {shown(value)}, which is of another type")
        # Every channel and every repeated layer has at least one number, or one tensor, in the
        # file; the size of an image has none.
        if name not in ("seed", "image_size"):
            repeats = name.startswith("num_") and name != "num_classes"
            _check_sizes(name, value, len(weights) if repeats else elements)
    seed = config.get("seed")
    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(f"its seed is {shown(seed)}, which is not in [0, 2^63)")
    if config.get("image_size", 1) > 2**20:
        raise InputError(f"its image_size is {shown(config['image_size'])}, above 2^20")
    return config


def _check_sizes(name: str, value: Any, most: int) -> None:
    numbers = sorted(abs(n) for n in _numbers(value))
    if any(not math.isfinite(n) for n in numbers) or (numbers and numbers[-1] > max(most, 16)):
        raise InputError(f"its {name} is {shown(value)}, more than the {most:,} in the file")
    # A message function or an aggregation can have a matrix between two sizes that it is given.
    if name.endswith("_kwargs") and math.prod(numbers[-2:]) > 4 * max(most, 64):
        raise InputError(f"its {name} is {shown(value)}, for which the file is too small")


def _numbers(value: Any) -> list[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _parse(metadata: Mapping[str, str], name: str, kind: Any) -> Any:
    if name not in metadata:
        raise InputError(f"its metadata have no {name}")
    try:
        value = parse_json(metadata[name])
    except ValueError as error:
        raise InputError(f"its {name} cannot be read: {shown(str(error))}") from None
    if not _fits(value, kind):
        raise InputError(f"its {name} is {shown(value)}, which is of another type")
    return value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of the type ``hint``; True for hints that JSON does not know."""
    origin, of = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in of)
    if origin is Literal:
        return isinstance(value, str) and value in of
    if origin in (list, tuple):
        return isinstance(value, list) and all(_fits(item, of[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, of[1]) for item in value.values())
    if hint in (type(None), None):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, bool, str):
        return type(value) is hint
    return True
