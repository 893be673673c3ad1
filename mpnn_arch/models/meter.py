"""Adding up the cost of a model's layers from their widths."""

from __future__ import annotations

from collections.abc import Callable

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.assignment import GraphAssignment
from mpnn_arch.models.round_cost import round_cost
from mpnn_arch.partition import Order

Pair = int | tuple[int, int]
"""Height and width, or one number for both."""

RoundMeter = Callable[[RelationalGraph, int, int, Pair | None, tuple[int, int]], int]
"""(graph, in_channels, out_channels, kernel_size or None, output size) -> multiply-adds."""


class Meter:
    """Adds up multiply-adds along a model, tracking the image size; no tensor is created.

    Every block has a ``cost`` method that reports its layers to a meter. Biases, normalisation,
    activations, pooling and additions are not counted (except the biases of squeeze-excitation, as
    in the published figures).

    Args:
        graphs: which graph each round runs on.
        image_size: (H, W) of the input in pixels; None for a model over vectors.
        order: partition order of the rounds.
        round_meter: cost of a round, if it is not a sum of linear or conv messages.
        check: reject stages narrower than their graph.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> config = models.make_config("mlp", in_features=64, hidden_features=32)
        >>> meter = models.Meter(config.assignment([graphs.complete(16)]))
        >>> config.count(meter, (32,))
        >>> meter.multiply_adds  # 64 x 32, three of 32 x 32, 32 x 10
        5440
    """

    def __init__(
        self,
        graphs: GraphAssignment,
        image_size: tuple[int, int] | None = None,
        *,
        order: Order = "published",
        round_meter: RoundMeter | None = None,
        check: bool = True,
    ) -> None:
        self.graphs = graphs
        self.size = (1, 1) if image_size is None else image_size
        self.multiply_adds = 0
        self._order = order
        self._round_meter = round_meter
        self._check = check

    @property
    def is_dense(self) -> bool:
        """Whether the model has no graph."""
        return self.graphs.is_dense

    def start_stage(self, index: int, label: str | None = None) -> None:
        """Start stage ``index``: the next layers belong to it."""
        self.graphs.start_stage(index, label)

    def linear(self, in_features: int, out_features: int, positions: int = 1) -> None:
        """A dense linear layer."""
        self.multiply_adds += positions * in_features * out_features

    def round(self, in_features: int, out_features: int, positions: int = 1) -> None:
        """A round: dense where the model has no graph."""
        graph = self.graphs.next()
        cost = self._round(graph, in_features, out_features, None, (1, 1))
        self.multiply_adds += positions * cost

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair = 1,
        stride: Pair = 1,
        *,
        groups: int = 1,
    ) -> None:
        """A dense conv, padded by half its kernel; updates the image size."""
        self._shrink(stride)
        weights = in_channels // groups * out_channels * _area(kernel_size)
        self.multiply_adds += weights * self.pixels

    def conv_round(
        self, in_channels: int, out_channels: int, kernel_size: Pair = 1, stride: Pair = 1
    ) -> None:
        """A conv round, padded by half its kernel; dense where the model has no graph."""
        graph = self.graphs.next()
        self._shrink(stride)
        self.multiply_adds += self._round(graph, in_channels, out_channels, kernel_size, self.size)

    def shortcut(
        self, in_channels: int, out_channels: int, stride: int, *, relational: bool
    ) -> None:
        """The 1 x 1 projection of the next block's shortcut; the image size does not change."""
        graph = self.graphs.peek() if relational else None
        size = (_after(self.size[0], stride), _after(self.size[1], stride))
        self.multiply_adds += self._round(graph, in_channels, out_channels, 1, size)

    def pool(self, stride: int, *, ceil: bool = True) -> None:
        """Pooling by ``stride``; 3 x 3 padded by 1 rounds the size up, 2 x 2 unpadded down."""
        if ceil:
            self._shrink(stride)
        else:
            self.size = (self.size[0] // stride, self.size[1] // stride)
            if min(self.size) < 1:
                self._too_small()

    def squeeze(self, channels: int, inner: int) -> None:
        """A squeeze-excitation: two dense layers on the mean pixel, biases counted."""
        self.multiply_adds += 2 * channels * inner + inner + channels

    @property
    def pixels(self) -> int:
        """H * W of the current feature maps."""
        return self.size[0] * self.size[1]

    def _round(
        self,
        graph: RelationalGraph | None,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair | None,
        size: tuple[int, int],
    ) -> int:
        each = _area(kernel_size or 1) * size[0] * size[1]
        if graph is None:
            return in_channels * out_channels * each
        if self._check:
            self.graphs.check_width(graph, in_channels, "input")
            self.graphs.check_width(graph, out_channels)
        if self._round_meter is not None:
            return self._round_meter(graph, in_channels, out_channels, kernel_size, size)
        return round_cost(graph, self._order).multiply_adds(in_channels, out_channels) * each

    def _shrink(self, stride: Pair) -> None:
        strides = _pair(stride)
        if any(by > 1 and size < 2 for by, size in zip(strides, self.size, strict=True)):
            self._too_small()
        self.size = (_after(self.size[0], strides[0]), _after(self.size[1], strides[1]))

    def _too_small(self) -> None:
        raise InputError(
            f"the image is too small for {self.graphs.name}: at {self.graphs.stage} it "
            f"has shrunk to {self.size[0]} x {self.size[1]} pixels and cannot be halved again; use "
            "larger images or a model with fewer strides"
        )


def _pair(size: Pair) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _area(kernel_size: Pair) -> int:
    height, width = _pair(kernel_size)
    return height * width


def _after(size: int, stride: int) -> int:
    """Output pixels of a conv of odd kernel padded by half of it."""
    return -(-size // stride)
