"""Everything that is drawn of one round, as one JSON-able dictionary."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from mpnn_arch.errors import InputError
from mpnn_arch.rounds import MessageRound, message_functions
from mpnn_arch.rounds.aggregations import aggregations
from mpnn_arch.rounds.hooks import HOOKED_STEPS
from mpnn_arch.rounds.messages import EdgeProduct
from mpnn_arch.widget.recording import Recording, dense_output, partial_aggregates

Scene = dict[str, Any]

# Numbers of one kind (weights, messages) that a scene holds; above, one number per edge.
MOST_NUMBERS = 2**18
# Nodes that are drawn as circles and arcs; above, the matrix alone.
MOST_NODES = 256
# Of AGG's name in the equation: an instance is called by all its arguments.
MOST_LETTERS = 16

# f_vu as it is written in the equation; `_vu` is a subscript, `*` a convolution.
FORMULAS = {
    "linear": "W_vu x_u",
    "conv": "W_vu * x_u",
    "scalar": "w_vu x_u",
    "affine": "W_vu x_u + b_vu",
    "separable_conv": "P_vu (D_vu * x_u)",
    "low_rank": "U_vu V_vu x_u",
    "gated": "W_vu x_u · sigmoid(V_vu x_u)",
    "bilinear": "W_vu x_u · V_vu x_v",
    "attention": "alpha_vu W_vu x_u",
    "edge_mlp": "W2_vu relu(W1_vu x_u + b1_vu) + b2_vu",
    "shared_linear": "W x_u",
    "shared_conv": "W * x_u",
    "shared_attention": "alpha_vu W x_u",
    "identity": "x_u",
}


def make_scene(
    recording: Recording, *, name: str = "", index: int = 0, largest_map: int = 28
) -> Scene:
    """The round of ``recording`` with its messages, weights, aggregates and output.

    Numbers are packed, see :func:`pack`. What belongs to a node lies in ``nodes[str(v)]``, its
    messages and weights in the ascending order of their senders, so that the scenes of two nearly
    equal rounds differ in few entries.

    Args:
        recording: of one sample.
        name: of the round in its model.
        index: of the round in its model.
        largest_map: pixels a side; larger maps are averaged down.
    """
    layer, plan, graph = recording.layer, recording.layer.plan.to("cpu"), recording.layer.graph
    blocks, notes = _blocks(recording)
    received = int((plan.out_sizes * plan.edge_ptr.diff()).sum())  # channels of all messages
    map_in = _thumbnail_size(recording.x.shape[1:], plan.in_channels, largest_map)
    map_out = _thumbnail_size(recording.output.shape[1:], received, largest_map)
    if (map_in, map_out) != (tuple(recording.x.shape[1:]), tuple(recording.output.shape[1:])):
        notes.append(
            f"Maps are averaged down to {_times(map_in)} before the round, to "
            f"{_times(map_out)} after it, to be drawn."
        )
    detailed = received * math.prod(map_out) <= MOST_NUMBERS and plan.num_nodes <= MOST_NODES
    partial = partial_aggregates(recording) if detailed else None
    if not detailed:
        notes.append("A message is drawn as one number, its mean: there are too many for more.")
    if layer.projection is not None:
        notes.append(
            "AGG ends in a learned projection, which brings its channels back to each node's share."
        )
    if plan.num_nodes > MOST_NODES:
        notes.append(
            f"The graph has {plan.num_nodes} nodes; above {MOST_NODES} the matrix alone is drawn."
        )
    try:
        dense, no_dense = dense_output(recording), ""
    except InputError as error:
        dense, no_dense = None, str(error)

    apart = None if dense is None else _largest(dense - recording.output)
    if apart and apart > 0.01 * (_largest(recording.output) or 0) and _has_hooks(layer):
        notes.append(
            "This round has hooks that may change its messages or its output; the dense layer has "
            "none of them."
        )

    after = {"aggregate": recording.aggregate, "output": recording.output}
    after |= {} if dense is None else {"dense": dense}
    after |= {} if recording.residual is None else {"residual": recording.residual}
    in_ptr, out_ptr, edge_ptr = (
        t.tolist() for t in (plan.in_offsets, plan.out_offsets, plan.edge_ptr)
    )
    nodes: dict[str, Any] = {}
    for v, size in enumerate(layer.out_partition.sizes):
        edges, channels = slice(edge_ptr[v], edge_ptr[v + 1]), slice(out_ptr[v], out_ptr[v + 1])
        messages = recording.messages[edges, :size]
        node: dict[str, Any] = {
            "sources": plan.source[edges].tolist(),
            "mean": pack(messages.flatten(1).mean(1)),
            "size": pack(messages.flatten(1).square().mean(1).sqrt()),
            "x": pack(_shrunk(recording.x[in_ptr[v] : in_ptr[v + 1]], map_in)),
            "weights": pack(torch.cat(blocks.numbers[edges])),
        }
        node |= {key: pack(_shrunk(tensor[channels], map_out)) for key, tensor in after.items()}
        if layer.bias is not None:
            node["bias"] = pack(layer.bias[channels].float().cpu())
        if detailed:
            node["messages"] = pack(_shrunk(messages, map_out))
        if partial is not None:
            node["partial"] = pack(_shrunk(partial[edges, :size], map_out))
        nodes[str(v)] = node

    return {
        "name": name,
        "index": index,
        "num_nodes": plan.num_nodes,
        "directed": graph.is_directed,
        "in_sizes": list(layer.in_partition.sizes),
        "out_sizes": list(layer.out_partition.sizes),
        "map_in": list(map_in),
        "map_out": list(map_out),
        "kernel": list(blocks.kernel),
        "whole_blocks": blocks.whole,
        "nodes": nodes,
        "facts": facts(recording),
        "difference": apart,
        "no_dense": no_dense,
        "matrix": blocks.name,
        "message": message_name(layer),
        "aggr": str(layer.aggr) if len(str(layer.aggr)) <= MOST_LETTERS else "AGG",
        "formula": FORMULAS.get(message_name(layer), "f_vu(x_u)"),
        "update": _update_name(recording),
        "notes": notes,
    }


def facts(recording: Recording) -> dict[str, Any]:
    """What the graph is and what the round costs; L is None for a graph with unreachable pairs."""
    layer, graph = recording.layer, recording.layer.graph
    try:
        length: float | None = graph.average_path_length
    except InputError:
        length = None
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "clustering_coefficient": graph.clustering_coefficient,
        "average_path_length": length,
        "parameters": sum(parameter.numel() for parameter in layer.parameters()),
        "multiply_adds": layer.multiply_adds(tuple(recording.output.shape[1:])),
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
    }


def menus(layer: MessageRound) -> dict[str, list[str]]:
    """The aggregations and message functions that a round like ``layer`` may be swapped to."""
    over_maps = layer.message_function.spatial_dims > 0
    messages = [
        name
        for name in message_functions
        if not getattr(
            message_functions.get(name), "maps_instead" if over_maps else "vectors_instead"
        )
    ]
    aggrs = [name for name in aggregations if name != "add"]
    first = ["sum", "mean", "max", "min"]
    aggrs = first + [name for name in aggrs if name not in first]
    own = {"aggr": str(layer.aggr), "message": message_name(layer)}
    return {
        "aggr": aggrs if own["aggr"] in aggrs else [own["aggr"], *aggrs],
        "message": messages if own["message"] in messages else [own["message"], *messages],
    }


def message_name(layer: MessageRound) -> str:
    """The registered name of its message function, or its class's."""
    kind = type_before_parametrizations(layer.message_function)
    names = [name for name in message_functions if message_functions.get(name) is kind]
    return names[0] if names else kind.__name__


def _largest(values: Tensor) -> float | None:
    """The largest absolute value among the finite ones; None without any."""
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else None


def _has_hooks(layer: MessageRound) -> bool:
    """Whether a hook sees what the round computes: one of torch's, or of PyG's on a step."""
    kinds = ["forward", *(f"{step}_forward" for step in HOOKED_STEPS)]
    return any(len(getattr(layer, f"_{kind}_hooks")) for kind in kinds)


def edge_matrices(layer: MessageRound) -> tuple[Tensor | None, str]:
    """The matrix, or stack of kernels, on every edge, zero-padded, and what it is called.

    Shapes:
        - **matrices:** (E, largest_out, largest_in, ...); None for a message without one
    """
    function, plan = layer.message_function, layer.plan
    with torch.no_grad():
        if function.fusable:
            return function.edge_blocks().float().cpu(), "W"
        for name, part in function.named_children():
            if isinstance(part, EdgeProduct):
                rows, columns = part.rows.cpu(), part.columns.cpu()
                fits = torch.equal(rows, plan.out_sizes[plan.target].cpu())
                if fits and torch.equal(columns, plan.in_sizes[plan.source].cpu()):
                    return part.blocks().float().cpu(), f"{name}.weight"
    return None, ""


def pack(values: Tensor) -> str:
    """Numbers as ``"scale;base64"``: little-endian int16 in units of the scale.

    The error is at most 1/65532 of the largest finite number; 32767 and -32767 stand for the
    infinities, -32768 for NaN.
    """
    array = values.detach().double().reshape(-1).numpy()
    largest = float(np.abs(array).max()) if array.size else 0.0
    given = array
    if not math.isfinite(largest):  # not asked of every number: a scene has hundreds of arrays
        array = np.where(np.isfinite(array), array, 0.0)
        largest = float(np.abs(array).max())
    scale = largest / 32766 or 1.0
    whole = np.rint(array / scale)
    if array is not given:
        for value, code in ((np.inf, 32767), (-np.inf, -32767)):
            whole[given == value] = code
        whole[np.isnan(given)] = -32768
    return f"{scale:.8g};{base64.b64encode(whole.astype('<i2').tobytes()).decode()}"


def unpack(text: str) -> np.ndarray:
    """The numbers that :func:`pack` wrote, as float64."""
    scale, data = text.split(";")
    whole = np.frombuffer(base64.b64decode(data), "<i2").astype(float)
    numbers = whole * float(scale)
    for code, value in ((32767, np.inf), (-32767, -np.inf), (-32768, np.nan)):
        numbers[whole == code] = value
    return numbers


class _Blocks(NamedTuple):
    """What the matrix view shows of every edge.

    Attributes:
        numbers: by edge, the entries of its matrix row by row; or one number, a mean.
        whole: whether they are the entries.
        kernel: (height, width) of an entry that is a kernel; () for numbers.
        name: of the matrix.
    """

    numbers: list[Tensor]
    whole: bool
    kernel: tuple[int, ...]
    name: str


def _blocks(recording: Recording) -> tuple[_Blocks, list[str]]:
    """The blocks of the matrix view, and a sentence where they are not the weights themselves."""
    layer, plan = recording.layer, recording.layer.plan.to("cpu")
    rows, columns = plan.out_sizes[plan.target].tolist(), plan.in_sizes[plan.source].tolist()
    matrices, name = edge_matrices(layer)
    if matrices is None:
        means = [
            messages[:size].mean().view(1)
            for messages, size in zip(recording.messages, rows, strict=True)
        ]
        note = (
            "No weights of this message have the shape of a block: a block is drawn as one number, "
            "the message's mean."
        )
        return _Blocks(means, False, (), "mean of the message"), [note]
    numbers = [
        matrix[:size, :sender].flatten()
        for matrix, size, sender in zip(matrices, rows, columns, strict=True)
    ]
    if sum(map(len, numbers)) <= MOST_NUMBERS:
        return _Blocks(numbers, True, tuple(matrices.shape[3:]), name), []
    note = "A block is drawn as one number, the mean of its weights: there are too many for more."
    means = [block.mean().view(1) for block in numbers]
    return _Blocks(means, False, (), f"mean of {name}"), [note]


def _thumbnail_size(space: Sequence[int], rows: int, largest: int) -> tuple[int, ...]:
    """The size, at most ``largest``, at which ``rows`` maps fit a scene; () for vectors."""
    for side in (largest, 20, 16, 12, 8, 6, 4):
        size = tuple(min(side, largest, pixels) for pixels in space)
        if rows * math.prod(size) <= MOST_NUMBERS:
            break
    return size


def _shrunk(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps averaged to ``size``; vectors, and maps of that size, as they are."""
    if not size or tuple(maps.shape[-2:]) == size:
        return maps
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return F.adaptive_avg_pool2d(flat, (size[0], size[1])).view(*maps.shape[:-2], *size)


def _update_name(recording: Recording) -> str:
    """sigma in words: norm, squeeze-and-excitation, residual, activation."""
    layer = recording.layer
    names = [
        type(part).__name__ if isinstance(part, nn.Module) else getattr(part, "__name__", "f")
        for part in (layer.norm, layer.squeeze, layer.activation)
        if part is not None
    ]
    if recording.residual is not None:  # before the activation
        names.insert(len(names) - (layer.activation is not None), "adding the residual")
    return ", then ".join(names) or "the identity"


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
