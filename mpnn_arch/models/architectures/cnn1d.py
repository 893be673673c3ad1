"""A small CNN for signals: a dense stem, three conv rounds along the signal, a dense head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor, nn

from mpnn_arch.models.blocks import MeanPoolHead
from mpnn_arch.models.config import ModelConfig
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS

_STEM_KERNEL, _KERNEL, _STRIDE = (1, 5), (1, 3), (1, 2)


@MODELS.register("cnn1d")
@dataclass(frozen=True, kw_only=True)
class CNN1DConfig(ModelConfig):
    """Three conv rounds of 128 with kernels of 3, each of which halves the signal.

    The stem is a conv of 128 with kernels of 5. A signal is a map of one row; an image is read
    row after row.

    Args:
        length: numbers in a signal, a channel; None: those of an image, image_size^2.
        num_rounds: rounds between stem and head.

    Source: after the CNN of Greydanus, Kobak, *Scaling Down Deep Learning with MNIST-1D*, ICML
    2024, which has 25 channels.
    """

    name: ClassVar[str] = "cnn1d"
    summary: ClassVar[str] = "3 conv rounds of 1x3 and 128 along a signal"

    num_classes: int = 10
    image_size: int = 32
    length: int | None = None
    num_rounds: int = 3

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """One stage: the width of every round."""
        return (self.scaled(128),)

    @property
    def signal_length(self) -> int:
        """Numbers in a signal, a channel."""
        return self.image_size**2 if self.length is None else self.length

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(in_channels, 1, length)"""
        return (self.in_channels, 1, self.signal_length)

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        meter.size = (1, self.signal_length)
        width = self.scaled(128)
        meter.conv(self.in_channels, width, _STEM_KERNEL)
        meter.start_stage(0)
        for _ in range(self.num_rounds):
            meter.conv_round(width, widths[0], _KERNEL, _STRIDE)
            width = widths[0]
        meter.linear(width, self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return CNN1D(self, layers, widths[0])


class CNN1D(nn.Module):
    """Dense stem, conv rounds along the signal, dense head on their mean.

    Shapes:
        - **x:** (B, C, H, W) with H * W = length
        - **output:** (B, num_classes)
    """

    def __init__(self, config: CNN1DConfig, layers: Layers, width: int) -> None:
        super().__init__()
        before = config.scaled(128)
        self.stem = layers.maps(config.in_channels, before, _STEM_KERNEL)
        layers.start_stage(0)
        self.rounds = nn.Sequential()
        for _ in range(config.num_rounds):
            self.rounds.append(layers.conv_round(before, width, _KERNEL, _STRIDE))
            before = width
        self.head = MeanPoolHead(layers, width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        signal = x.flatten(2).unsqueeze(2)
        return cast(Tensor, self.head(self.rounds(self.stem(signal))))
