"""An aggregation run on made-up messages, to see what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import Aggregation

from mpnn_arch.rounds.aggregations import restore_quantiles
from mpnn_arch.rounds.copied import deep_copy


@contextmanager
def on_trial(aggr: Aggregation) -> Iterator[Aggregation]:
    """A copy of ``aggr`` to be run, without gradients, to see what it does.

    A run may update its buffers, as running statistics, and draw random numbers, as a dropout:
    those of ``aggr`` and of torch are left as they are, and the copy always draws the same. One on
    the meta device is copied to the CPU, with ones for its parameters, as some read their indices.
    """
    devices = {tensor.device for tensor in _tensors(aggr) if tensor.is_cuda}
    with torch.random.fork_rng(devices=[*devices]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        probe = deep_copy(aggr)
        if any(parameter.is_meta for parameter in probe.parameters()):
            probe = probe.to_empty(device="cpu")
            for parameter in probe.parameters():
                parameter.fill_(1)
            restore_quantiles(probe)
        yield probe


def place_of(aggr: Aggregation) -> dict[str, Any]:
    """Device and dtype of its parameters; of its buffers, as ranks of quantiles, if it has none."""
    for tensor in _tensors(aggr):
        if tensor.is_floating_point():
            return {"device": tensor.device, "dtype": tensor.dtype}
    return {"device": "cpu", "dtype": torch.float32}


def _tensors(aggr: Aggregation) -> Iterator[Tensor]:
    return chain(aggr.parameters(), aggr.buffers())
