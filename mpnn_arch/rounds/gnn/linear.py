"""Linear maps inside GNN layers, drawn from a generator as the rounds' own weights are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch_geometric.nn.inits import reset


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


def redraw(module: Any, generator: torch.Generator | None = None) -> None:
    """Redraw the parameters of ``module`` and of its parts, without torch's global state."""
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    if parameter is None or parameter.is_meta:
        return
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[parameter.device] if parameter.is_cuda else []):
        torch.manual_seed(seed)
        reset(module)
