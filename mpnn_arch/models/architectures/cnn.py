"""The paper's 8-layer CNN: a dense stem, six conv rounds, a dense head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mpnn_arch.models.blocks import MeanPoolHead, Staged
from mpnn_arch.models.config import ModelConfig
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


@MODELS.register("cnn8")
@dataclass(frozen=True, kw_only=True)
class CNN8Config(ModelConfig):
    """Six 3 x 3 conv rounds in stages of 64, 128, 256, each of which halves the image.

    The stem is 3 x 3 of 64 with stride 2 and a 3 x 3 max-pool with stride 2; for images below 64
    pixels it has stride 1 and no pool.

    Source: You, Leskovec, He, Xie, ICML 2020, section 4.2.
    """

    name: ClassVar[str] = "cnn8"
    summary: ClassVar[str] = "6 conv rounds of 3x3 in stages 64, 128, 256"
    widths: ClassVar[tuple[int, ...]] = (64, 128, 256)
    stem_width: ClassVar[int] = 64
    rounds_per_stage: ClassVar[int] = 2

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        width = self.scaled(self.stem_width)
        meter.conv(self.in_channels, width, 3, stride=1 if self.is_small else 2)
        if not self.is_small:
            meter.pool(2)
        for stage, out_channels in enumerate(widths):
            meter.start_stage(stage)
            for index in range(self.rounds_per_stage):
                meter.conv_round(width, out_channels, 3, stride=2 if index == 0 else 1)
                width = out_channels
        meter.linear(width, self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return CNN8(self, layers, widths)


class CNN8(Staged):
    """Dense stem, six conv rounds, dense head."""

    def __init__(self, config: CNN8Config, layers: Layers, widths: Sequence[int]) -> None:
        super().__init__()
        width = config.scaled(config.stem_width)
        stride = 1 if config.is_small else 2
        self.stem = nn.Sequential(layers.maps(config.in_channels, width, 3, stride))
        if not config.is_small:
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.Sequential()
        for stage, out_channels in enumerate(widths):
            layers.start_stage(stage)
            blocks = nn.Sequential()
            for index in range(config.rounds_per_stage):
                stride = 2 if index == 0 else 1
                blocks.append(layers.conv_round(width, out_channels, 3, stride))
                width = out_channels
            self.stages.append(blocks)
        self.head = MeanPoolHead(layers, width, config.num_classes)
