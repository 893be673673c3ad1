"""EfficientNet-B0: inverted bottlenecks whose 1 x 1 convs are rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict, cast

from torch import Tensor, nn

from mpnn_arch.models.blocks import MeanPoolHead, SqueezeExcitation
from mpnn_arch.models.config import ModelConfig, Search
from mpnn_arch.models.layers import Layers, silu
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


class Block(TypedDict):
    """The widths and strides of one MBConv."""

    in_channels: int
    expanded: int
    out_channels: int
    kernel_size: int
    stride: int
    expand: bool


class MBConv(nn.Module):
    """1 x 1 expansion, depth-wise conv, squeeze-excitation, 1 x 1 projection, plus the input.

    The two 1 x 1 are rounds, the rest is dense. The input is added if the output has its shape.
    """

    def __init__(self, layers: Layers, block: Block) -> None:
        super().__init__()
        in_channels, expanded = block["in_channels"], block["expanded"]
        out_channels, stride = block["out_channels"], block["stride"]
        self.expand: nn.Module = nn.Identity()
        if block["expand"]:
            self.expand = layers.conv_round(in_channels, expanded, activation=silu)
        kernel_size = block["kernel_size"]
        self.depthwise = layers.maps(
            expanded, expanded, kernel_size, stride, groups=expanded, activation=silu
        )
        self.gate = SqueezeExcitation(layers, expanded, squeeze_width(in_channels))
        self.project = layers.conv_round(expanded, out_channels, activation=None)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H', W')."""
        inner = self.gate(self.depthwise(self.expand(x)))
        return cast(Tensor, self.project(inner, x if self.has_skip else None))

    @staticmethod
    def cost(meter: Meter, block: Block) -> None:
        """The layers' cost."""
        in_channels, expanded = block["in_channels"], block["expanded"]
        if block["expand"]:
            meter.conv_round(in_channels, expanded)
        meter.conv(expanded, expanded, block["kernel_size"], block["stride"], groups=expanded)
        meter.squeeze(expanded, squeeze_width(in_channels))
        meter.conv_round(expanded, block["out_channels"])


def squeeze_width(in_channels: int) -> int:
    """Inner width of a squeeze-excitation: a quarter of the block's input, floored."""
    return max(1, in_channels // 4)


@MODELS.register("efficientnet_b0")
@dataclass(frozen=True, kw_only=True)
class EfficientNetB0Config(ModelConfig):
    """EfficientNet-B0 with swish; stem 3 x 3 of 32, head 1 x 1 of 1280.

    The dense model expands each block's input 6 times. The relational model's expanded width is 6
    times the *stage's* dense output width in every block and is not changed when widths are
    matched, so on the complete graph it costs more than the dense model (467,785,436 on 16 nodes).
    The first stage has no expansion. For images below 64 pixels the stem has stride 1.

    Source: Tan, Le, ICML 2019; relational form: the published runs of You, Leskovec, He, Xie,
    ICML 2020.
    """

    name: ClassVar[str] = "efficientnet_b0"
    summary: ClassVar[str] = "MBConv of depths 1-2-2-3-3-4-1; expansion and projection are rounds"
    default_graph: ClassVar[str] = "ws_flex:16,5,0.15,0"
    search: ClassVar[Search] = "scaled"
    depths: ClassVar[tuple[int, ...]] = (1, 2, 2, 3, 3, 4, 1)
    widths: ClassVar[tuple[int, ...]] = (16, 24, 40, 80, 112, 192, 320)
    expansions: ClassVar[tuple[int, ...]] = (1, 6, 6, 6, 6, 6, 6)
    strides: ClassVar[tuple[int, ...]] = (1, 2, 2, 2, 1, 2, 1)
    kernel_sizes: ClassVar[tuple[int, ...]] = (3, 3, 5, 3, 5, 5, 3)

    @property
    def stem_width(self) -> int:
        """Channels of the stem."""
        return self.scaled(32)

    @property
    def head_width(self) -> int:
        """Channels of the 1 x 1 conv before the classifier."""
        return self.scaled(1280)

    def blocks(self, widths: Sequence[int], *, dense: bool) -> list[list[Block]]:
        """The arguments of every block, stage by stage."""
        stages: list[list[Block]] = []
        width = self.stem_width
        for stage, out_channels in enumerate(widths):
            blocks: list[Block] = []
            for index in range(self.depths[stage]):
                ratio = self.expansions[stage]
                expanded = ratio * (width if dense or ratio == 1 else self.stage_widths[stage])
                blocks.append(
                    {
                        "in_channels": width,
                        "expanded": expanded,
                        "out_channels": out_channels,
                        "kernel_size": self.kernel_sizes[stage],
                        "stride": self.strides[stage] if index == 0 else 1,
                        "expand": ratio != 1,
                    }
                )
                width = out_channels
            stages.append(blocks)
        return stages

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        meter.conv(self.in_channels, self.stem_width, 3, stride=1 if self.is_small else 2)
        for stage, blocks in enumerate(self.blocks(widths, dense=meter.is_dense)):
            meter.start_stage(stage)
            for block in blocks:
                MBConv.cost(meter, block)
        meter.conv(widths[-1], self.head_width)
        meter.linear(self.head_width, self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return EfficientNet(self, layers, widths)


class EfficientNet(nn.Module):
    """Dense stem, stages of MBConv, 1 x 1 conv, dense head.

    Shapes:
        - **x:** (B, C, H, W)
        - **output:** (B, num_classes)
    """

    def __init__(self, config: EfficientNetB0Config, layers: Layers, widths: Sequence[int]) -> None:
        super().__init__()
        stride = 1 if config.is_small else 2
        self.stem = layers.maps(config.in_channels, config.stem_width, 3, stride, activation=silu)
        self.stages = nn.Sequential()
        for stage, blocks in enumerate(config.blocks(widths, dense=layers.is_dense)):
            layers.start_stage(stage)
            self.stages.append(nn.Sequential(*(MBConv(layers, block) for block in blocks)))
        self.last = layers.maps(widths[-1], config.head_width, activation=silu)
        self.head = MeanPoolHead(layers, config.head_width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        return cast(Tensor, self.head(self.last(self.stages(self.stem(x)))))
