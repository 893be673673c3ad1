"""The factory of a model's layers: dense ones, and rounds where it has a graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch_geometric.nn import Aggregation

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.assignment import GraphAssignment
from mpnn_arch.models.dense import Dense
from mpnn_arch.models.linear_product import add_picker
from mpnn_arch.models.meter import Pair, RoundMeter
from mpnn_arch.partition import Order
from mpnn_arch.rounds import MessageFunction, RelationalConv2d, RelationalLinear

Message = str | type[MessageFunction] | None
Activation = Callable[[], nn.Module] | None

# Names of the default message: linear over vectors, conv over maps.
_DEFAULT = ("linear", "conv")


def relu() -> nn.Module:
    """A ReLU that overwrites its input, which nothing else reads."""
    return nn.ReLU(inplace=True)


def silu() -> nn.Module:
    """A SiLU (swish) that overwrites its input."""
    return nn.SiLU(inplace=True)


class Layers:
    """Builds the layers of one model, each round on its own graph.

    Blocks get their layers from it, so that one block class serves the dense and the relational
    model. Each method has a counterpart in :class:`~mpnn_arch.models.meter.Meter` that counts its
    cost. Convs are padded by half their kernel and have no bias, since a BatchNorm follows. Norm
    and activation belong to the round: sigma is part of Equation 1.

    Args:
        graphs: which graph each round runs on.
        order: partition order of the rounds.
        backend: of the rounds; None: the fastest available, for dense linear layers too.
        message: message function of the rounds; None: linear, or conv on maps.
        aggr: their aggregation.
        message_kwargs: passed to the message function.
        aggr_kwargs: passed to the aggregation.
        generator: draws the rounds' initial parameters.
        device, dtype: of every parameter.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs, models
        >>> from mpnn_arch.models.assignment import GraphAssignment
        >>> layers = models.Layers(GraphAssignment([graphs.ring(16, 4)], "mine", 1, 1))
        >>> layers.start_stage(0)
        >>> layers.round(32, 64, norm=True)(torch.zeros(2, 32)).shape
        torch.Size([2, 64])
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
        self._factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self._round: dict[str, Any] = {
            "order": order,
            "aggr": aggr,
            "backend": "auto" if backend is None else backend,
            "message_kwargs": message_kwargs,
            "aggr_kwargs": aggr_kwargs,
            "generator": generator,
            **self._factory_kwargs,
        }
        self._message = message

    @property
    def is_dense(self) -> bool:
        """Whether the model has no graph."""
        return self.graphs.is_dense

    def start_stage(self, index: int, label: str | None = None) -> None:
        """Start stage ``index``: the next layers belong to it."""
        self.graphs.start_stage(index, label)

    def linear(self, in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
        """A dense linear layer; a block calls it by ``linear_product``, or in a ``Dense``."""
        layer = nn.Linear(in_features, out_features, bias, **self._factory_kwargs)
        return add_picker(layer, self._round["backend"])

    def round(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        norm: bool = False,
        activation: Activation = None,
    ) -> nn.Module:
        """A round over vectors; a dense layer where the model has no graph.

        Args:
            in_features, out_features: channels.
            bias: whether a bias is added to the sum.
            norm: whether a BatchNorm follows it.
            activation: factory of the activation; None for none.
        """
        graph, act = self.graphs.next(), activation() if activation else None
        if graph is None:
            linear = self.linear(in_features, out_features, bias=bias)
            return Dense(
                linear, self.batch_norm(out_features, spatial=False) if norm else None, act
            )
        return RelationalLinear(
            graph,
            in_features,
            out_features,
            bias=bias,
            message=self._message_or("linear"),
            norm="batch" if norm else None,
            activation=act,
            **self._round,
        )

    def vectors(self, in_features: int, out_features: int) -> nn.Module:
        """A dense linear layer with BatchNorm and ReLU."""
        linear = self.linear(in_features, out_features, bias=False)
        return Dense(linear, self.batch_norm(out_features, spatial=False), relu())

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair = 1,
        stride: Pair = 1,
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
            _half(kernel_size),
            groups=groups,
            bias=bias,
            **self._factory_kwargs,
        )

    def maps(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair = 1,
        stride: Pair = 1,
        *,
        groups: int = 1,
        activation: Activation = relu,
    ) -> nn.Module:
        """A dense conv with BatchNorm and an activation."""
        conv = self.conv(in_channels, out_channels, kernel_size, stride, groups=groups)
        return Dense(conv, self.batch_norm(out_channels), activation() if activation else None)

    def patches(self, in_channels: int, out_channels: int, patch_size: int) -> nn.Conv2d:
        """A dense layer on every patch of an image."""
        return nn.Conv2d(in_channels, out_channels, patch_size, patch_size, **self._factory_kwargs)

    def conv_round(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair = 1,
        stride: Pair = 1,
        *,
        activation: Activation = relu,
    ) -> nn.Module:
        """A conv round with BatchNorm and an activation; dense where the model has no graph."""
        graph = self.graphs.next()
        return self._conv_round(graph, in_channels, out_channels, kernel_size, stride, activation)

    def shortcut(
        self, in_channels: int, out_channels: int, stride: int, *, relational: bool
    ) -> nn.Module:
        """The 1 x 1 projection of the next block's shortcut, on the graph of its first round."""
        graph = self.graphs.peek() if relational else None
        return self._conv_round(graph, in_channels, out_channels, 1, stride, None)

    def batch_norm(self, channels: int, *, spatial: bool = True) -> nn.Module:
        """A BatchNorm over maps, or over vectors."""
        return (nn.BatchNorm2d if spatial else nn.BatchNorm1d)(channels, **self._factory_kwargs)

    def layer_norm(self, channels: int) -> nn.LayerNorm:
        """A LayerNorm over the last dimension."""
        return nn.LayerNorm(channels, **self._factory_kwargs)

    def parameter(self, *shape: int) -> nn.Parameter:
        """A parameter of zeros."""
        return nn.Parameter(torch.zeros(*shape, **self._factory_kwargs))

    def _message_or(self, default: str) -> str | type[MessageFunction]:
        message = self._message
        return default if message is None or _is_default(message) else message

    def _conv_round(
        self,
        graph: RelationalGraph | None,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        activation: Activation,
    ) -> nn.Module:
        if graph is None:
            return self.maps(in_channels, out_channels, kernel_size, stride, activation=activation)
        return RelationalConv2d(
            graph,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            _half(kernel_size),
            bias=False,
            message=self._message_or("conv"),
            norm="batch",
            activation=activation() if activation else None,
            **self._round,
        )


def _is_default(message: Message) -> bool:
    return message is None or (isinstance(message, str) and message in _DEFAULT)


def _half(kernel_size: Pair) -> Pair:
    """The padding of an odd kernel at which a stride of 1 keeps the size."""
    if isinstance(kernel_size, int):
        return kernel_size // 2
    return kernel_size[0] // 2, kernel_size[1] // 2


def round_meter(
    message: Message,
    aggr: str | Aggregation,
    message_kwargs: dict[str, Any] | None,
    aggr_kwargs: dict[str, Any] | None,
    order: Order,
) -> RoundMeter | None:
    """The cost function of such rounds; None where the formula for linear messages applies.

    The function builds the round on the meta device, without weights, and reads its cost.
    """
    if _is_default(message) and isinstance(aggr, str) and aggr in ("sum", "add"):
        return None

    @lru_cache(maxsize=4096)
    def cost(
        graph: RelationalGraph,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair | None,
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
            layer: Any = layers.round(in_channels, out_channels)
            return int(layer.multiply_adds())
        layer = layers.conv_round(in_channels, out_channels, kernel_size)
        return int(layer.multiply_adds(size))

    return cost
