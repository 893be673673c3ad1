"""The way back to the shares from an aggregation that returns more channels than it is given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Aggregation

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.aggregations import SIGNATURE, WIDTHS, is_channelwise
from mpnn_arch.rounds.messages.initial import fill_uniform
from mpnn_arch.rounds.on_trial import on_trial, place_of
from mpnn_arch.rounds.wrapped import unwrapped


def widening(aggr: Aggregation, channels: int) -> int:
    """k, for an aggregation that returns k * C channels for messages of C, found by running it.

    Raises:
        InputError: it does not accept a table of messages, or returns a number of rows or
            channels that cannot be projected back to the shares.
    """
    if is_channelwise(aggr):
        return 1
    with on_trial(aggr) as probe:
        table = torch.ones(3, channels, **place_of(probe))
        index = torch.tensor([0, 0, 1], device=table.device)
        try:
            out = probe(table, index, dim_size=2, dim=-2)
        except Exception as error:
            advice = ""
            if "unexpected keyword argument" in str(error):
                advice = f"; give it {SIGNATURE}, as PyG asks for"
            elif any(hasattr(aggr, name) for name in WIDTHS):
                advice = "; give its name or class, which gets the channels of every round"
            raise InputError(
                f"the aggregation {shown(aggr)} does not accept messages of {channels} channels: "
                f"{error}{advice}"
            ) from error
    if not isinstance(out, Tensor):
        raise InputError(
            f"the aggregation {shown(aggr)} returns {shown(out)} for 3 messages of {channels} "
            "channels; choose one that returns a tensor"
        )
    if out.dim() != 2 or out.shape[0] != 2 or out.shape[1] % channels or not out.shape[1]:
        raise InputError(
            f"the aggregation {shown(aggr)} returns shape {tuple(out.shape)} for 3 messages of "
            f"{channels} channels to 2 nodes; expected (2, {channels}), or a multiple of "
            f"{channels} channels, which the round projects back"
        )
    return int(out.shape[1] // channels)


def make_projection(aggr: Aggregation, plan: RoundPlan, **factory: Any) -> ShareProjection | None:
    """The projection back to the shares, for an aggregation that widens its input."""
    blocks = widening(aggr, plan.largest_out)
    return ShareProjection(plan, blocks, **factory) if blocks > 1 else None


def check_given_aggregation(layer: Any, aggr: Aggregation) -> None:
    """Refuse an aggregation, set on a built round, whose channels its other parts do not take.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`, built.
        aggr: returns k * C channels for messages of C.

    Raises:
        InputError: k is not that of the aggregation that the round was built with.
    """
    given = widening(aggr, layer.plan.largest_out)
    if layer.graph is None:  # a layer of its own may take what is wider, as in SAGE
        taken = widening(unwrapped(layer.aggr_module), layer.plan.largest_out)
    else:
        taken = 1 if layer.projection is None else layer.projection.blocks
    if given != taken:
        raise InputError(
            f"{shown(aggr)} returns {given} times the channels of its messages, and this round "
            f"takes {taken} times; build a round with it: aggr=..."
        )


class ShareProjection(nn.Module):
    r"""y_v = P_v a_v, from the k * size_v channels of a wide aggregation to node v's share.

    Args:
        plan: index tensors of the round.
        blocks: k.
        device, dtype: of the parameters.

    Shapes:
        - **weight:** (sum over nodes of k * size_v^2,)
        - **input:** (N, B, k * largest_out, ...), **output:** (N, B, largest_out, ...)
    """

    def __init__(self, plan: RoundPlan, blocks: int, **factory: Any) -> None:
        super().__init__()
        sizes, largest = plan.out_sizes.cpu(), plan.largest_out
        own = torch.arange(largest) < sizes[:, None]  # (N, largest)
        self.blocks = blocks
        self.real = own[:, :, None] & own.repeat(1, blocks)[:, None, :]
        self.fan_in = (sizes * blocks).repeat_interleave(sizes * sizes * blocks)
        self.weight = nn.Parameter(torch.empty(int(self.real.sum()), **factory))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform, so that the projection preserves the mean square of its input."""
        fill_uniform(self.weight, (3 / self.fan_in.double()).sqrt(), generator)

    def forward(self, shares: Tensor) -> Tensor:
        """(N, B, k * largest_out, ...) -> (N, B, largest_out, ...)."""
        real = self.real.to(self.weight.device)
        weight = self.weight.new_zeros(real.shape).masked_scatter(real, self.weight)
        flat = shares.movedim(2, -1)  # (N, B, ..., k * largest_out)
        out = torch.matmul(flat.flatten(1, -2), weight.transpose(1, 2))
        return out.unflatten(1, flat.shape[1:-1]).movedim(-1, 2)

    def multiply_adds(self, pixels: int) -> int:
        """One per weight and output pixel, for one sample."""
        return self.weight.numel() * pixels
