"""MobileNet v1: separable convs whose 1 x 1 half is a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mpnn_arch.models.blocks import MeanPoolHead, Staged, halving_stages
from mpnn_arch.models.config import ModelConfig
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


@MODELS.register("mobilenet_v1")
@dataclass(frozen=True, kw_only=True)
class MobileNetV1Config(ModelConfig):
    """Depth-wise 3 x 3, BatchNorm, ReLU, 1 x 1 round, BatchNorm, ReLU; thirteen times.

    The stem is 3 x 3 of 32 with stride 2; for images below 64 pixels stride 1. Every stage but
    the first starts with a stride of 2.

    Source: Howard et al., arXiv 1704.04861. Its relational form is ours.
    """

    name: ClassVar[str] = "mobilenet_v1"
    summary: ClassVar[str] = "13 depth-wise convs, each followed by a 1x1 round"
    default_graph: ClassVar[str] = "ws_flex:16,5,0.15,0"
    depths: ClassVar[tuple[int, ...]] = (1, 2, 2, 6, 2)
    widths: ClassVar[tuple[int, ...]] = (64, 128, 256, 512, 1024)

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        width = self.scaled(32)
        meter.conv(self.in_channels, width, 3, stride=1 if self.is_small else 2)
        for stage, blocks in enumerate(halving_stages(self.depths, widths, width)):
            meter.start_stage(stage)
            for in_channels, out_channels, stride in blocks:
                meter.conv(in_channels, in_channels, 3, stride, groups=in_channels)
                meter.conv_round(in_channels, out_channels)
        meter.linear(widths[-1], self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return MobileNetV1(self, layers, widths)


class MobileNetV1(Staged):
    """Dense stem, stages of separable convs, dense head."""

    def __init__(self, config: MobileNetV1Config, layers: Layers, widths: Sequence[int]) -> None:
        super().__init__()
        width = config.scaled(32)
        self.stem = layers.maps(config.in_channels, width, 3, 1 if config.is_small else 2)
        self.stages = nn.Sequential()
        for stage, blocks in enumerate(halving_stages(config.depths, widths, width)):
            layers.start_stage(stage)
            made = nn.Sequential()
            for in_channels, out_channels, stride in blocks:
                depthwise = layers.maps(in_channels, in_channels, 3, stride, groups=in_channels)
                round_ = layers.conv_round(in_channels, out_channels)
                made.append(nn.Sequential(depthwise, round_))
            self.stages.append(made)
        self.head = MeanPoolHead(layers, widths[-1], config.num_classes)
