"""The factory that makes a model's layers: dense ones, and rounds where it has a graph."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn
from torch_geometric.nn import Aggregation

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.assignment import GraphAssignment
from mpnn_arch.models.meter import RoundMeter
from mpnn_arch.partition import Order
from mpnn_arch.rounds import MessageFunction, RelationalConv2d, RelationalLinear

Message = str | type[MessageFunction] | None

# What a layer on vectors and a layer on maps mean by the same plain message.
_PLAIN = (None, "linear", "conv")


class Layers:
    """Makes the layers of one model, each round on its own graph.

    Blocks ask it for their layers, so one block class serves the dense model and the relational
    one. Its methods are the twins of :class:`~mpnn_arch.models.meter.Meter`'s. Convs are padded by
    half their kernel and have no bias: a BatchNorm follows.

    Args:
        graphs: which graph each round runs on.
        order: partition order of the rounds.
        backend: of the rounds; None: the fastest that computes them.
        message: message function of the rounds; None: linear, or conv on maps.
        aggr: their aggregation.
        message_kwargs: handed to the message function.
        aggr_kwargs: handed to the aggregation.
        generator: draws the rounds' initial parameters.
        device, dtype: of every parameter.
    """

    def __init__(
        self,
        graphs: GraphAssignment,
        *,
        order: Order = "published",
        backend: str | None = None,
        message: Message = None,
        aggr: str | Aggregation = "sum",
        message_kwargs: dict[str, Any] | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.graphs = graphs
        self._made: dict[str, Any] = {"device": device, "dtype": dtype}
        self._round: dict[str, Any] = {
            "order": order,
            "aggr": aggr,
            "message_kwargs": message_kwargs,
            "aggr_kwargs": aggr_kwargs,
            "generator": generator,
            **self._made,
        }
        self._backend = backend
        self._message = message

    @property
    def is_dense(self) -> bool:
        """Whether the model has no graph."""
        return self.graphs.is_dense

    def start_stage(self, index: int, label: str | None = None) -> None:
        """The layers to come belong to stage ``index``."""
        self.graphs.start_stage(index, label)

    def linear(self, in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
        """A dense linear layer."""
        return nn.Linear(in_features, out_features, bias, **self._made)

    def round(self, in_features: int, out_features: int, *, bias: bool = False) -> nn.Module:
        """A round over vectors; ``nn.Linear`` where the model has no graph."""
        graph = self.graphs.next()
        if graph is None:
            return self.linear(in_features, out_features, bias=bias)
        message = "linear" if self._message in _PLAIN else self._message
        return self._with_backend(
            RelationalLinear,
            graph,
            in_features,
            out_features,
            bias=bias,
            message=message,
            **self._round,
        )

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> nn.Conv2d:
        """A dense conv."""
        return nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            kernel_size // 2,
            groups=groups,
            bias=bias,
            **self._made,
        )

    def patches(self, in_channels: int, out_channels: int, patch_size: int) -> nn.Conv2d:
        """A dense layer on every patch of an image."""
        return nn.Conv2d(in_channels, out_channels, patch_size, patch_size, **self._made)

    def conv_round(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1
    ) -> nn.Module:
        """A conv round; ``nn.Conv2d`` where the model has no graph."""
        return self._conv_round(self.graphs.next(), in_channels, out_channels, kernel_size, stride)

    def shortcut(
        self, in_channels: int, out_channels: int, stride: int, *, relational: bool
    ) -> nn.Module:
        """The 1 x 1 conv beside the block to come, on the graph of the block's first round."""
        graph = self.graphs.peek() if relational else None
        return self._conv_round(graph, in_channels, out_channels, 1, stride)

    def batch_norm(self, channels: int, *, spatial: bool = True) -> nn.Module:
        """A BatchNorm over maps, or over vectors."""
        return (nn.BatchNorm2d if spatial else nn.BatchNorm1d)(channels, **self._made)

    def layer_norm(self, channels: int) -> nn.LayerNorm:
        """A LayerNorm over the last dimension."""
        return nn.LayerNorm(channels, **self._made)

    def parameter(self, *shape: int) -> nn.Parameter:
        """A parameter of zeros."""
        return nn.Parameter(torch.zeros(*shape, **self._made))

    def _conv_round(
        self,
        graph: RelationalGraph | None,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
    ) -> nn.Module:
        if graph is None:
            return self.conv(in_channels, out_channels, kernel_size, stride)
        message = "conv" if self._message in _PLAIN else self._message
        return self._with_backend(
            RelationalConv2d,
            graph,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            kernel_size // 2,
            bias=False,
            message=message,
            **self._round,
        )

    def _with_backend(self, kind: Any, *args: Any, **kwargs: Any) -> nn.Module:
        return cast(nn.Module, kind(*args, backend=self._backend or "auto", **kwargs))


def round_meter(
    message: Message,
    aggr: str | Aggregation,
    message_kwargs: dict[str, Any] | None,
    aggr_kwargs: dict[str, Any] | None,
    order: Order,
) -> RoundMeter | None:
    """What such a round costs: None where a formula tells, else a function that asks the round.

    The round is made on the meta device, without weights.
    """
    if message in _PLAIN and aggr in ("sum", "add"):
        return None

    @lru_cache(maxsize=4096)
    def cost(
        graph: RelationalGraph,
        in_channels: int,
        out_channels: int,
        kernel_size: int | None,
        size: tuple[int, int],
    ) -> int:
        layers = Layers(
            GraphAssignment([graph], "model", 1, 1),
            order=order,
            backend="reference",
            message=message,
            aggr=aggr,
            message_kwargs=message_kwargs,
            aggr_kwargs=aggr_kwargs,
            device="meta",
        )
        if kernel_size is None:
            made: Any = layers.round(in_channels, out_channels)
            return int(made.multiply_adds())
        made = layers.conv_round(in_channels, out_channels, kernel_size)
        return int(made.multiply_adds(size))

    return cost
