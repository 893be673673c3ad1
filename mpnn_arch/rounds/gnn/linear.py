"""Linear maps inside GNN layers, drawn from a generator as the rounds' own weights are."""

from __future__ import annotations

import torch
from torch import nn

from mpnn_arch.rounds.initial_scale import redraw


def linear(
    in_features: int,
    out_features: int,
    bias: bool,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Linear:
    """``nn.Linear`` with parameters from ``generator``; None for torch's default one."""
    device = torch.empty(0, device=device).device  # torch's default device for None
    made: nn.Linear = nn.utils.skip_init(
        nn.Linear, in_features, out_features, bias, device=device, dtype=dtype
    )
    redraw(made, generator)
    return made
