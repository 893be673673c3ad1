"""A round's messages computed for some target nodes, or samples, at a time, to limit memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mpnn_arch.kernels.dispatch.tracing import in_functorch, jit_tracing
from mpnn_arch.rounds.aggregations import aggregate_messages, is_channelwise
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.shares import merge_shares, own_channels, split_shares


def chunks_of(layer: MessageRound, x: Tensor, most: int) -> list[tuple[int, int]]:
    """Ranges of target nodes, or of samples, whose messages have at most ``most`` elements.

    An aggregation of whole messages may depend on what other nodes receive: an LSTM runs over as
    many messages as the node with the most has. Samples are graphs of their own to it. A batch
    norm in training reads all messages.

    Shapes:
        - **x:** (B, C_in, ...)
    """
    plan, function = layer.plan, layer.message_function
    whole = [(0, plan.num_nodes)]
    if torch.compiler.is_exporting() or jit_tracing():  # for every size of the batch
        return whole
    per_edge = x.shape[0] * max(plan.largest_in, plan.largest_out) * math.prod(x.shape[2:])
    if per_edge * plan.num_edges <= most:
        return whole
    apart = function.shared or "edges" in function.arguments
    by_sample = _by_sample(layer)
    if (
        not apart
        or (by_sample and x.shape[0] == 1)
        or _has_batch_statistics(function, layer.aggr_module)
    ):
        return whole
    if by_sample:
        samples = max(1, most * x.shape[0] // (per_edge * plan.num_edges))
        return [(first, first + samples) for first in range(0, x.shape[0], samples)]
    chunks, ptr, start = [], plan.edge_bounds, 0
    for end in range(1, plan.num_nodes + 1):
        full = (ptr[end] - ptr[start]) * per_edge > most
        if full and end - 1 > start:
            chunks.append((start, end - 1))
            start = end - 1
    return [*chunks, (start, plan.num_nodes)]


def aggregate_in_chunks(layer: MessageRound, x: Tensor, chunks: list[tuple[int, int]]) -> Tensor:
    """``message`` and ``aggregate`` over one chunk after the other.

    With several chunks, messages are recomputed in the backward pass.

    Shapes:
        - **x:** (B, C_in, ...)
        - **output:** (B, C_out, ...)
    """
    shares, plan, function = split_shares(x, layer.plan), layer.plan, layer.message_function
    by_sample = len(chunks) > 1 and _by_sample(layer)

    def run(shares: Tensor, start: int, end: int) -> Tensor:
        if by_sample:
            shares, start, end = shares[:, start:end], 0, plan.num_nodes
        edges = slice(plan.edge_bounds[start], plan.edge_bounds[end])
        source, target = layer._edges[:, edges].unbind()
        x_i = shares.index_select(0, target) if "x_i" in function.arguments else None
        messages = function(shares.index_select(0, source), x_i, target, edges)
        own = own_channels(target, plan)
        return aggregate_messages(layer.aggr_module, messages, target - start, end - start, own)

    # In the backward pass, whose hooks `torch.func` refuses.
    replay = len(chunks) > 1 and torch.is_grad_enabled() and not in_functorch()
    parts = [
        checkpoint(run, shares, *chunk, use_reentrant=False) if replay else run(shares, *chunk)
        for chunk in chunks
    ]
    out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=int(by_sample))
    return merge_shares(out if layer.projection is None else layer.projection(out), plan)


def _by_sample(layer: MessageRound) -> bool:
    return not is_channelwise(layer.aggr_module)


def _has_batch_statistics(*parts: nn.Module) -> bool:
    """Whether a batch norm inside normalises by what it is given, and not by what it has seen."""
    norms = [norm for part in parts for norm in part.modules() if isinstance(norm, _BatchNorm)]
    return any(norm.training or norm.running_mean is None for norm in norms)
