"""Splitting a layer's channels into the nodes' shares, and merging them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError, ShapeError
from mpnn_arch.graphs.given import GivenGraph, as_graph
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels.dispatch.tracing import jit_tracing
from mpnn_arch.kernels.memory import check_maps
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.partition import ChannelPartition, Order


def round_graph(graph: GivenGraph) -> RelationalGraph:
    """The graph of a round, from the object or its specification.

    Raises:
        InputError: neither, or a specification that does not name exactly one graph; or a mode in
            which tensors have no numbers, which the index tensors of a round are made of.
    """
    if type(torch.empty(0, device="cpu")) is not Tensor:
        raise InputError(
            "a round cannot be built under FakeTensorMode, where its index tensors have no "
            "numbers: build it before, on device='meta' if it is to take no memory, and call it "
            "under FakeTensorMode(allow_non_fake_inputs=True)"
        )
    return as_graph(
        graph,
        "it comes first, as in RelationalLinear(graph, 512, 512). Where the graph comes with the "
        "input, use GraphRound",
    )


def share_channels(
    channels: int | ChannelPartition, graph: RelationalGraph, order: Order, side: str
) -> ChannelPartition:
    """The partition of a round's channels over the nodes of its graph.

    Args:
        channels: a number, or the partition itself.
        graph: of the round.
        order: which nodes hold the larger shares of a number of channels.
        side: ``"input"`` or ``"output"``, for the error message.

    Raises:
        InputError: fewer channels than nodes, or a partition over other nodes.
    """
    if not isinstance(channels, ChannelPartition):
        return ChannelPartition(channels, graph.num_nodes, order)
    if channels.num_nodes != graph.num_nodes:
        raise InputError(
            f"the {side} partition shares channels among {channels.num_nodes} nodes, the graph "
            f"has {graph.num_nodes}: use one share per node"
        )
    return channels


def split_shares(x: Tensor, plan: RoundPlan) -> Tensor:
    """Split the channels into the nodes' shares.

    Smaller shares are zero-padded to the largest, so that PyG can gather node features along
    edges; no weight multiplies the padding.

    Shapes:
        - **x:** (B, C_in, ...)
        - **output:** (N, B, largest_in, ...)
    """
    if plan.in_channels != plan.num_nodes * plan.largest_in:
        padded = F.pad(x, [0, 0] * (x.dim() - 2) + [0, 1])
        x = padded.index_select(1, plan.in_index.flatten())
    return x.unflatten(1, (plan.num_nodes, plan.largest_in)).transpose(0, 1)


def merge_shares(shares: Tensor, plan: RoundPlan) -> Tensor:
    """Concatenate the nodes' shares into the layer's output channels.

    Shapes:
        - **shares:** (N, B, largest_out, ...)
        - **output:** (B, C_out, ...)
    """
    x = shares.transpose(0, 1).flatten(1, 2)
    if plan.out_channels != plan.num_nodes * plan.largest_out:
        x = x.index_select(1, plan.out_index)
    return x


def own_channels(index: Tensor, plan: RoundPlan) -> Tensor | None:
    """Which channels of each message belong to its receiver's share; None: all of them.

    Shapes:
        - **index:** (E,) the receiver of each message
        - **output:** (E, largest_out) bool
    """
    if plan.out_channels == plan.num_nodes * plan.largest_out:
        return None
    channel = torch.arange(plan.largest_out, device=index.device)
    return channel < plan.out_sizes[index][:, None]


def another_layout(x: Tensor) -> InputError:
    """The error for a sparse or nested tensor, whose channels have no shares to split into."""
    kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
    given = "its rows, x.values()" if x.is_nested else "x.to_dense()"
    return InputError(f"this round takes a strided tensor, not a {kind} one: give {given}")


def is_residual(given: Any) -> bool:
    """Whether the second argument of a round is one, and no edge index, as GNN layers take."""
    return isinstance(given, Tensor) and (given.is_floating_point() or given.is_complex())


def batched(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a round's ``forward`` take any leading dimensions, as ``nn.Linear`` and ``nn.Conv2d`` do.

    The decorated method receives (B, C_in) or (B, C_in, H, W).

    Raises:
        ShapeError: an input of another shape, or maps that the kernel does not fit.
        InputError: no tensor.
    """

    @functools.wraps(forward)
    def of_any_batch(self: Any, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if isinstance(x, fx.Proxy):  # symbolic tracing: a round is one call, as `nn.Linear` is
            path = x.tracer.path_of_module(self)
            return x.tracer.create_proxy("call_module", path, (x, residual), {})
        for name, tensor in (("an input", x), ("a residual", residual)):
            if tensor is not None and not isinstance(tensor, Tensor):
                raise InputError(f"{name} of a round is a tensor, not {shown(tensor)}")
        if x is None:
            raise InputError("a round takes a tensor, None was given")
        if x.layout is not torch.strided or x.is_nested:
            product = getattr(self, "_of_another_layout", None)  # a fused round's
            if product is None:
                raise another_layout(x)
            out: Tensor = product(x, residual)
            return out
        spatial = self.message_function.spatial_dims
        channel_dim = x.dim() - 1 - spatial
        fits = channel_dim == 0 or (channel_dim == 1 if spatial else channel_dim > 0)
        tracing = jit_tracing()
        if not fits or (not tracing and x.shape[channel_dim] != self.in_channels):
            wanted = f"(B, {self.in_channels}, H, W)" if spatial else f"(..., {self.in_channels})"
            raise ShapeError(f"this round takes {wanted}, not {tuple(x.shape)}")
        if residual is not None and not is_residual(residual):
            raise InputError(
                f"the graph of this round is fixed, {self.graph!r}: the second "
                f"argument is a residual to add, not {residual.dtype}; where the graph comes with "
                "the input, use GraphRound"
            )
        if spatial and not (tracing or torch.compiler.is_compiling()):
            check_maps(x, self.message_function.geometry, self.out_channels)
        if not torch.compiler.is_compiling() and x.device != self.plan.device:
            # Parameters were put there one by one, and not by `Module.to`.
            self.message_function.move_plan(x.device)
        if channel_dim == 1:
            return forward(self, x, residual)
        leading = x.shape[:channel_dim]
        if residual is not None:
            residual = residual.reshape(-1, *residual.shape[channel_dim:])
        out = forward(self, x.reshape(-1, *x.shape[channel_dim:]), residual)
        return out.reshape(*leading, *out.shape[1:])

    return of_any_batch
