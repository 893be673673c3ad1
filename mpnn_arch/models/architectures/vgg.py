"""VGG-11: 3 x 3 conv rounds and max-pools."""

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


@MODELS.register("vgg11")
@dataclass(frozen=True, kw_only=True)
class VGG11Config(ModelConfig):
    """Eight 3 x 3 convs with BatchNorm, the first (the stem) dense; a 2 x 2 max-pool per stage.

    The head is the mean pixel and one dense layer in place of the original's three, which hold
    nine tenths of its parameters. For images below 64 pixels the stem's pool is left out.

    Source: Simonyan, Zisserman, ICLR 2015, configuration A. Its relational form is ours.
    """

    name: ClassVar[str] = "vgg11"
    summary: ClassVar[str] = "7 conv rounds of 3x3 in stages 128, 256, 512, 512"
    depths: ClassVar[tuple[int, ...]] = (1, 2, 2, 2)
    widths: ClassVar[tuple[int, ...]] = (128, 256, 512, 512)

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        width = self.scaled(64)
        meter.conv(self.in_channels, width, 3)
        if not self.is_small:
            meter.pool(2, ceil=False)
        for stage, (depth, out_channels) in enumerate(zip(self.depths, widths, strict=True)):
            meter.start_stage(stage)
            for _ in range(depth):
                meter.conv_round(width, out_channels, 3)
                width = out_channels
            meter.pool(2, ceil=False)
        meter.linear(width, self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return VGG11(self, layers, widths)


class VGG11(Staged):
    """Dense stem, stages of conv rounds, dense head."""

    def __init__(self, config: VGG11Config, layers: Layers, widths: Sequence[int]) -> None:
        super().__init__()
        width = config.scaled(64)
        self.stem = nn.Sequential(layers.maps(config.in_channels, width, 3))
        if not config.is_small:
            self.stem.append(nn.MaxPool2d(2))
        self.stages = nn.Sequential()
        for stage, (depth, out_channels) in enumerate(zip(config.depths, widths, strict=True)):
            layers.start_stage(stage)
            blocks = nn.Sequential()
            for _ in range(depth):
                blocks.append(layers.conv_round(width, out_channels, 3))
                width = out_channels
            blocks.append(nn.MaxPool2d(2))
            self.stages.append(blocks)
        self.head = MeanPoolHead(layers, width, config.num_classes)
