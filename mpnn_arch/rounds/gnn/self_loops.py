"""Self-loops that a layer adds to the graph of its input."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from mpnn_arch.errors import InputError
from mpnn_arch.rounds.graph_input import GraphInput


def replace_self_loops(
    graph: GraphInput, fill: float | str | Tensor, *, keep_weights: bool = False
) -> GraphInput:
    """Every node's self-loop after the caller's edges, in place of those the graph contains.

    A compiled call, and one on the meta device, keeps the shapes: the caller's own self-loops
    remain, as messages that are dropped.

    Args:
        graph: of a layer.
        fill: value of a self-loop: a number, a tensor, or ``"mean"`` and others over the values of
            the node's incoming edges.
        keep_weights: whether a self-loop of the caller's keeps its weight.
    """
    number = torch.arange(min(graph.size), device=graph.edge_index.device)
    num_edges = graph.edge_index.shape[1]
    own = graph.edge_index[0] == graph.edge_index[1]
    value = graph.value
    if value is not None:
        loops = _loop_values(value, graph, own, fill)
        if keep_weights:
            place = torch.where(own, graph.edge_index[0], number.shape[0])
            padded = torch.cat([loops, loops.new_zeros(1)])
            loops = padded.index_put((place,), value)[:-1]
        value = torch.cat([value, loops])
    edge_index = torch.cat([graph.edge_index, number.expand(2, -1)], dim=1)
    origin = torch.cat([torch.arange(num_edges, device=number.device), number * 0 + num_edges])
    dropped = torch.cat([own, torch.zeros_like(number, dtype=torch.bool)])
    if torch.compiler.is_compiling() or edge_index.is_meta:
        return graph._replace(edge_index=edge_index, value=value, dropped=dropped, origin=origin)
    return graph._replace(
        edge_index=edge_index[:, ~dropped],
        value=None if value is None else value[~dropped],
        origin=origin[~dropped],
    )


def _loop_values(
    value: Tensor, graph: GraphInput, own: Tensor, fill: float | str | Tensor
) -> Tensor:
    num_loops, shape = min(graph.size), value.shape[1:]
    if isinstance(fill, str):
        if fill not in ("add", "sum", "mean", "min", "max", "mul"):
            raise InputError(
                f"fill_value={fill!r} is no reduction; use a number, 'mean', 'add', 'min' or 'max'"
            )
        # By the second row of the edges, as in PyG, whichever way the messages flow.
        receiver = torch.where(own, graph.size[1], graph.edge_index[1])
        reduced = scatter(value, receiver, 0, graph.size[1] + 1, fill)
        return reduced[:num_loops]
    if isinstance(fill, Tensor):
        return fill.to(value).expand(num_loops, *shape)
    return value.new_full((num_loops, *shape), float(fill))
