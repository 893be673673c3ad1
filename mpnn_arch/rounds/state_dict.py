"""The graph in a round's state dict, which ties weights to their graph and shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.checks import counted
from mpnn_arch.errors import StateDictError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.rounds.groups import is_complete

_BUFFERS = ("graph_hash", "edge_index", "in_sizes", "out_sizes")


def register_graph(layer: Any, graph: RelationalGraph) -> None:
    """Register graph and shares as buffers, which :func:`check_state` compares with others.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`.
        graph: along whose edges its messages flow.
    """
    vars(layer)["graph"] = graph  # past the check of what is set on a built round
    for name, tensor in _graph_tensors(layer).items():
        layer.register_buffer(name, tensor.clone())  # the graph's own tensor stays as it is
    layer.register_state_dict_pre_hook(_before_saving)


def restore_graph(layer: Any) -> None:
    """Set the buffers from the graph where they hold something else.

    After ``to_empty`` they are undefined, and an average of two networks with their buffers, as of
    ``timm.utils.ModelEmaV2``, rounds them: ``0.9 * 7 + 0.1 * 7`` is 6.
    """
    for name, expected in _graph_tensors(layer).items():
        own = layer._buffers.get(name)
        if type(own) is not Tensor or own.is_meta or torch.equal(own.cpu(), expected):
            continue
        layer._buffers[name] = expected.clone().to(own.device)


def _graph_tensors(layer: Any) -> dict[str, Tensor]:
    """The buffers that say which graph and shares the weights belong to, on the CPU."""
    with torch.device("cpu"):
        digest = bytearray.fromhex(layer.graph.content_hash)
        return {
            "edge_index": layer.graph.edge_index,
            "in_sizes": torch.tensor(layer.in_partition.sizes),
            "out_sizes": torch.tensor(layer.out_partition.sizes),
            "graph_hash": torch.frombuffer(digest, dtype=torch.uint8),
        }


def _before_saving(layer: Any, *_: Any) -> None:
    restore_graph(layer)


def check_state(layer: Any, state: dict[str, Any], prefix: str) -> None:
    """Reject the weights of another graph or of other shares; take those of a dense layer.

    Args:
        layer: as for :func:`register_graph`.
        state: the state dict, whose entries are renamed or rounded where they have to be.
        prefix: of the layer's names in it.

    Raises:
        StateDictError: naming what differs.
    """
    expected = _graph_tensors(layer)
    _take_dense(layer, state, prefix, expected)
    for name in _BUFFERS:
        tensor = state.get(prefix + name)
        if tensor is None or tensor.is_meta or not tensor.is_floating_point():
            continue
        numbers = tensor.round().to("cpu", expected[name].dtype)  # of a weighted mean, or a cast
        lost = torch.equal(tensor.cpu(), expected[name].to(tensor.dtype))
        if lost and not torch.equal(numbers, expected[name]):
            number = int(expected[name][numbers != expected[name]][0])
            raise StateDictError(
                f"{prefix + name!r} of the state dict was cast to {tensor.dtype}, which has no "
                f"{number}: cast the floating-point tensors alone, as layer.to({tensor.dtype}) does"
            )
        state[prefix + name] = numbers.to(tensor.device)
    given = {name: state.get(prefix + name) for name in _BUFFERS}
    for name, tensor in given.items():
        if tensor is None or tensor.is_meta:
            continue
        if torch.equal(tensor.cpu(), expected[name]):
            continue
        if name.endswith("_sizes") and tensor.shape == expected[name].shape:
            node = int((tensor.cpu() != expected[name]).nonzero()[0])
            side = name[: -len("_sizes")]
            theirs, ours = int(tensor[node]), int(expected[name][node])
            if tensor.sum() == expected[name].sum():
                raise StateDictError(
                    f"the weights at {prefix or 'the top'!r} give node {node} {theirs} of the "
                    f"{side}put channels, this round {ours}: build it with the partition of the "
                    f"weights, ChannelPartition.from_sizes(state[{prefix + name!r}])"
                )
        raise StateDictError(
            f"the weights at {prefix or 'the top'!r} belong to {_describe(given)}, this round "
            f"to {layer.graph!r} with {layer.in_channels} -> {layer.out_channels} "
            "channels: build the round with the graph and partition of the weights"
        )


def _take_dense(layer: Any, state: dict[str, Any], prefix: str, graph: dict[str, Tensor]) -> None:
    """Rename a dense layer's weight for a round on the complete graph, which has the same one.

    A dense weight is (C_out, C_in / groups, ...), in the order of the round's own entries.
    """
    function, dense = layer.message_function, state.get(prefix + "weight")
    name, groups = prefix + "message_function.weight", getattr(layer, "groups", 1)
    shape = (layer.out_channels, layer.in_channels // groups)
    if not (function.plan_layout and dense is not None and is_complete(layer.graph, groups)):
        return
    if name in state or tuple(dense.shape[:2]) != shape:
        return
    state[name] = state.pop(prefix + "weight").flatten(0, 1)
    for buffer, tensor in graph.items():
        state.setdefault(prefix + buffer, tensor)


def _describe(given: dict[str, Tensor | None]) -> str:
    """The graph of a state dict, by its buffers."""
    edge_index, sizes, digest = given["edge_index"], given["in_sizes"], given["graph_hash"]
    if edge_index is None or sizes is None or digest is None or given["out_sizes"] is None:
        return "another graph"
    return (
        f"a graph of {counted(len(sizes), 'node')} and {counted(edge_index.shape[1], 'message')} "
        f"(hash={bytes(digest.tolist()).hex()[:8]}) with {int(sizes.sum())} -> "
        f"{int(given['out_sizes'].sum())} channels"
    )
