"""The multiply-adds of a round, summed over its parts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch_geometric.nn import Aggregation

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.aggregations import aggregate_messages
from mpnn_arch.rounds.flops import ProductCounter
from mpnn_arch.rounds.on_trial import on_trial, place_of


def round_multiply_adds(layer: Any, spatial_size: tuple[int, ...] = ()) -> int:
    """Multiply-adds of a round for one sample: its messages, and the products inside its AGG.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`.
        spatial_size: height and width of the output maps, for a round over maps.
    """
    pixels = math.prod(spatial_size)
    total = int(layer.message_function.multiply_adds(spatial_size))
    total += _aggregation_multiply_adds(layer.aggr_module, layer.plan, pixels)
    if layer.squeeze is not None:
        total += layer.squeeze.multiply_adds()
    return total if layer.projection is None else total + layer.projection.multiply_adds(pixels)


def _aggregation_multiply_adds(aggr: Aggregation, plan: RoundPlan, pixels: int) -> int:
    """Multiply-adds of the networks inside the aggregation, for one sample, counted in a run."""
    if next(aggr.parameters(), None) is None:
        return 0
    with on_trial(aggr) as probe:
        probe.requires_grad_(False)
        # In float64 an LSTM is products that the counter sees, and not one call of oneDNN.
        probe = probe.to("cpu", torch.float64)
        table = torch.ones(plan.num_edges, 1, plan.largest_out, **place_of(probe))
        with ProductCounter() as counter:
            aggregate_messages(probe, table, plan.target.cpu(), plan.num_nodes)
    return counter.multiply_adds * pixels
