"""The multiply-adds of a round, summed over its parts."""

from __future__ import annotations

import math
from typing import Any

from mpnn_arch.rounds.aggregations import aggregation_multiply_adds


def round_multiply_adds(layer: Any, spatial_size: tuple[int, ...] = ()) -> int:
    """Multiply-adds of a round for one sample: its messages, and the products inside its AGG.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`.
        spatial_size: height and width of the output maps, for a round over maps.
    """
    pixels = math.prod(spatial_size)
    total = int(layer.message_function.multiply_adds(spatial_size))
    total += aggregation_multiply_adds(layer.aggr_module, layer.plan, pixels)
    if layer.squeeze is not None:
        total += layer.squeeze.multiply_adds()
    return total if layer.projection is None else total + layer.projection.multiply_adds(pixels)
