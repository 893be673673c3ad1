"""The graph in a round's state dict, which ties weights to their graph and shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph

_BUFFERS = ("graph_hash", "edge_index", "in_sizes", "out_sizes")


def register_graph(layer: Any, graph: RelationalGraph) -> None:
    """Register graph and shares as buffers, and reject a state dict with different ones.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`.
        graph: along whose edges its messages flow.
    """
    layer.graph = graph
    layer.register_buffer("edge_index", graph.edge_index)
    layer.register_buffer("in_sizes", torch.tensor(layer.in_partition.sizes))
    layer.register_buffer("out_sizes", torch.tensor(layer.out_partition.sizes))
    digest = torch.frombuffer(bytearray.fromhex(graph.content_hash), dtype=torch.uint8)
    layer.register_buffer("graph_hash", digest)
    layer.register_load_state_dict_pre_hook(_check_graph)


def forget_graph(layer: Any) -> None:
    """Undo :func:`register_graph` for a round whose graph comes with the input."""
    layer.graph = None
    for name in _BUFFERS:
        delattr(layer, name)


def _check_graph(layer: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    given = {name: state.get(prefix + name) for name in _BUFFERS}
    for name, tensor in given.items():
        own = layer._buffers.get(name)
        if tensor is None or own is None or tensor.is_meta or own.is_meta:
            continue
        if not torch.equal(tensor.to(own.device), own):
            raise InputError(
                f"the weights at {prefix or 'the top'!r} belong to {_describe(given)}, this round "
                f"to {layer.graph!r} with {layer.in_channels} -> {layer.out_channels} "
                "channels: build the round with the graph and partition of the weights"
            )


def _describe(given: dict[str, Tensor | None]) -> str:
    """The graph of a state dict, by its buffers."""
    edge_index, sizes, digest = given["edge_index"], given["in_sizes"], given["graph_hash"]
    if edge_index is None or sizes is None or digest is None or given["out_sizes"] is None:
        return "another graph"
    return (
        f"a graph of {len(sizes)} nodes and {edge_index.shape[1]} messages "
        f"(hash={bytes(digest.tolist()).hex()[:8]}) with {int(sizes.sum())} -> "
        f"{int(given['out_sizes'].sum())} channels"
    )
