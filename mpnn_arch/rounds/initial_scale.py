"""The initialisation of a round's parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import aggr as pyg
from torch_geometric.nn.inits import reset

from mpnn_arch.rounds.aggregations import aggregate_messages
from mpnn_arch.rounds.generator import check_generator
from mpnn_arch.rounds.messages.initial import set_values
from mpnn_arch.rounds.on_trial import on_trial, place_of
from mpnn_arch.rounds.wrapped import unwrapped


def reset_round(
    layer: Any,
    generator: torch.Generator | None = None,
    *,
    by_degree: bool = True,
    with_bias: bool = True,
) -> None:
    """Redraw all parameters of a round, from ``generator``.

    Messages are scaled for the aggregation, see :func:`message_gain`; biases are uniform in
    +-1/sqrt(fan-in), as in ``nn.Linear``.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`.
        generator: source of randomness, on the CPU; None for torch's default one.
        by_degree: whether the number of messages that each node receives is known.
        with_bias: whether the bias is that of the sum.
    """
    if generator is not None:
        check_generator(generator)
    with torch.device("cpu"):  # where a generator draws, whatever torch's default device is
        _reset(layer, generator, by_degree)
        if with_bias and layer.bias is not None and not layer.bias.is_meta:
            _reset_bias(layer, generator)


def _reset(layer: Any, generator: torch.Generator | None, by_degree: bool) -> None:
    redraw(layer.aggr_module, generator)
    redraw(layer.squeeze, generator)
    if layer.projection is not None:
        layer.projection.reset_parameters(generator)
    function, plan = layer.message_function, layer.plan
    if by_degree and not any(p.is_meta for p in layer.parameters()):
        function.set_initial_gain(
            message_gain(layer.aggr_module, plan.edge_ptr.diff(), plan.largest_out)
        )
    if not any(p.is_meta for p in function.parameters()):
        function.reset_parameters(generator)


def _reset_bias(layer: Any, generator: torch.Generator | None) -> None:
    plan, area = layer.plan, layer.message_function.kernel_area
    fan_in = (plan.fan_in.cpu() * area).repeat_interleave(plan.out_sizes.cpu())
    bound = fan_in.to(torch.float64).rsqrt().to(layer.bias.dtype)  # MPS has no float64
    drawn = torch.empty(layer.out_channels, dtype=layer.bias.dtype)
    drawn.uniform_(-1, 1, generator=generator)
    set_values(layer.bias, drawn * bound)


def message_gain(aggr: pyg.Aggregation, degree: Tensor, channels: int) -> Tensor:
    """(N,) the factor by which messages to a node of each degree should exceed those of a sum.

    With it, the aggregate of random messages has the scale of a sum of messages initialised by
    ``nn.Linear``'s rule: root mean square 1/sqrt(3) for input of 1. Known for sum and mean, and
    measured on random messages for the rest, including custom aggregations.

    Args:
        aggr: the aggregation.
        degree: (N,) messages each node receives.
        channels: of one message.
    """
    kind = type(unwrapped(aggr))
    if issubclass(kind, pyg.SumAggregation):
        return torch.ones(len(degree), dtype=torch.float64)
    if issubclass(kind, pyg.MeanAggregation):
        return degree.to("cpu", torch.float64)
    factory = place_of(aggr)
    degrees, inverse = degree.cpu().unique(return_inverse=True)
    index = torch.arange(len(degrees)).repeat_interleave(degrees)
    samples = max(1, 256 // channels)
    messages = torch.randn(
        len(index), samples, channels, generator=torch.Generator().manual_seed(0)
    )
    messages = messages * (3 * degrees[index]).rsqrt()[:, None, None]

    def size(gain: Tensor) -> Tensor:
        scaled = (messages * gain[index][:, None, None]).to(**factory)
        with on_trial(aggr) as probe:
            out = aggregate_messages(probe, scaled, index.to(scaled.device), len(degrees))
        return out.cpu().double().square().flatten(1).mean(1).sqrt()

    one, target = torch.ones(len(degrees)), 3**-0.5
    first, second = size(one), size(2 * one)
    if torch.allclose(second, 2 * first, rtol=1e-3):  # homogeneous of degree 1
        gain = target / first
    else:
        low, high = one.log() - 7, one.log() + 7
        for _ in range(20):
            middle = (low + high) / 2
            small = size(middle.exp()) < target
            low, high = torch.where(small, middle, low), torch.where(small, high, middle)
        gain = high.exp()
    # Where the aggregate is zero (the variance of one message), no gain reaches the scale.
    gain = torch.where((gain > 1e-3) & (gain < 1e3), gain, 1.0)
    return gain.double()[inverse]


def redraw(module: Any, generator: torch.Generator | None = None) -> None:
    """Redraw the parameters of ``module`` and of its parts, without torch's global state.

    Args:
        module: None, and one without tensors or with those on the meta device, is left alone.
        generator: source of randomness, of which a module that learns nothing takes none; None for
            torch's default one.
    """
    if not isinstance(module, nn.Module):
        return
    parameter = next(module.parameters(), None)
    # Buffers alone are undefined after `to_empty`, as the mean degrees of a degree scaler.
    tensor = next(module.buffers(), None) if parameter is None else parameter
    if tensor is None or tensor.is_meta:
        return
    seed = 0
    if parameter is not None:
        seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[tensor.device] if tensor.is_cuda else []):
        torch.manual_seed(seed)
        reset(module)
