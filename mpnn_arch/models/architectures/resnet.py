"""ResNets: residual blocks of conv rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from mpnn_arch.checks import check_choice
from mpnn_arch.models.blocks import MeanPoolHead, Staged, halving_stages
from mpnn_arch.models.config import ModelConfig, Search
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """A ResNet whose blocks are conv rounds; stem and head stay dense.

    The stem is 7 x 7 with stride 2 and a 3 x 3 max-pool with stride 2; for images below 64 pixels
    it is 3 x 3 with stride 1 and no pool. Every stage but the first halves the image.

    Args:
        shortcut: the projection shortcut, where a block changes the width or the image: a
            ``"relational"`` 1 x 1 round on the graph of the block's first round, or a ``"dense"``
            1 x 1 conv. The default is that of the published runs.

    Source: He, Zhang, Ren, Sun, CVPR 2016, with the stride of a bottleneck on its 3 x 3; relational
    form: You, Leskovec, He, Xie, ICML 2020, section 4.2 and its published runs.
    """

    block: ClassVar[type[ResidualTransform]]
    depths: ClassVar[tuple[int, ...]]
    stem_width: ClassVar[int]

    shortcut: Literal["relational", "dense"] = "relational"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("shortcut", self.shortcut, ("relational", "dense"))

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        width = self.scaled(self.stem_width)
        if self.is_small:
            meter.conv(self.in_channels, width, 3)
        else:
            meter.conv(self.in_channels, width, 7, stride=2)
            meter.pool(2)
        for stage, blocks in enumerate(halving_stages(self.depths, widths, width)):
            meter.start_stage(stage)
            for in_channels, out_channels, stride in blocks:
                if in_channels != out_channels or stride != 1:
                    relational = self.shortcut == "relational"
                    meter.shortcut(in_channels, out_channels, stride, relational=relational)
                self.block.cost(meter, in_channels, out_channels, stride)
        meter.linear(widths[-1], self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return ResNet(self, layers, widths)


class ResidualTransform(nn.Sequential):
    """The layers of a residual block; the last one, a round, adds the shortcut."""

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, stride: int) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """relu(norm(layers(x)) + residual): (B, C_in, H, W) -> (B, C_out, H', W')."""
        *before, last = self
        for layer in before:
            x = layer(x)
        return cast(Tensor, last(x, residual))

    @staticmethod
    def cost(meter: Meter, in_channels: int, out_channels: int, stride: int) -> None:
        """The layers' cost."""
        raise NotImplementedError


class Basic(ResidualTransform):
    """3 x 3, 3 x 3."""

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, stride: int) -> None:
        nn.Module.__init__(self)
        self.a = layers.conv_round(in_channels, out_channels, 3, stride)
        self.b = layers.conv_round(out_channels, out_channels, 3)

    @staticmethod
    def cost(meter: Meter, in_channels: int, out_channels: int, stride: int) -> None:
        """The layers' cost."""
        meter.conv_round(in_channels, out_channels, 3, stride)
        meter.conv_round(out_channels, out_channels, 3)


class Separable(ResidualTransform):
    """Depth-wise 3 x 3 followed by a 1 x 1 round, twice."""

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, stride: int) -> None:
        nn.Module.__init__(self)
        self.a_depthwise = layers.conv(in_channels, in_channels, 3, stride, groups=in_channels)
        self.a = layers.conv_round(in_channels, out_channels)
        self.b_depthwise = layers.conv(out_channels, out_channels, 3, groups=out_channels)
        self.b = layers.conv_round(out_channels, out_channels)

    @staticmethod
    def cost(meter: Meter, in_channels: int, out_channels: int, stride: int) -> None:
        """The layers' cost."""
        meter.conv(in_channels, in_channels, 3, stride, groups=in_channels)
        meter.conv_round(in_channels, out_channels)
        meter.conv(out_channels, out_channels, 3, groups=out_channels)
        meter.conv_round(out_channels, out_channels)


class Bottleneck(ResidualTransform):
    """1 x 1, 3 x 3, 1 x 1, with an inner width of a quarter."""

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, stride: int) -> None:
        nn.Module.__init__(self)
        inner = self.inner(out_channels)
        self.a = layers.conv_round(in_channels, inner)
        self.b = layers.conv_round(inner, inner, 3, stride)
        self.c = layers.conv_round(inner, out_channels)

    @staticmethod
    def inner(out_channels: int) -> int:
        """A quarter of the width, rounded (half to even, as the published runs did)."""
        return round(out_channels / 4)

    @staticmethod
    def cost(meter: Meter, in_channels: int, out_channels: int, stride: int) -> None:
        """The layers' cost."""
        inner = Bottleneck.inner(out_channels)
        meter.conv_round(in_channels, inner)
        meter.conv_round(inner, inner, 3, stride)
        meter.conv_round(inner, out_channels)


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + transform(x)); the shortcut is the identity if the shape is unchanged."""

    def __init__(
        self,
        layers: Layers,
        config: ResNetConfig,
        in_channels: int,
        out_channels: int,
        stride: int,
    ) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = layers.shortcut(
                in_channels, out_channels, stride, relational=config.shortcut == "relational"
            )
        self.transform = config.block(layers, in_channels, out_channels, stride)

    @property
    def zero_init_norm(self) -> nn.Module:
        """The BatchNorm that the published initialisation sets to 0, leaving only the shortcut."""
        return cast(nn.Module, self.transform[-1].norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H', W')."""
        return cast(Tensor, self.transform(x, residual=self.shortcut(x)))


class ResNet(Staged):
    """Dense stem, stages of residual blocks, dense head."""

    def __init__(self, config: ResNetConfig, layers: Layers, widths: Sequence[int]) -> None:
        super().__init__()
        width = config.scaled(config.stem_width)
        if config.is_small:
            self.stem = nn.Sequential(layers.maps(config.in_channels, width, 3))
        else:
            stem = layers.maps(config.in_channels, width, 7, stride=2)
            self.stem = nn.Sequential(stem, nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.Sequential()
        for stage, blocks in enumerate(halving_stages(config.depths, widths, width)):
            layers.start_stage(stage)
            made = (ResidualBlock(layers, config, *block) for block in blocks)
            self.stages.append(nn.Sequential(*made))
        self.head = MeanPoolHead(layers, widths[-1], config.num_classes)


@MODELS.register("resnet34")
@dataclass(frozen=True, kw_only=True)
class ResNet34Config(ResNetConfig):
    """ResNet-34."""

    name: ClassVar[str] = "resnet34"
    summary: ClassVar[str] = "basic blocks 3-4-6-3 of 64 to 512"
    block: ClassVar[type[ResidualTransform]] = Basic
    depths: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    widths: ClassVar[tuple[int, ...]] = (64, 128, 256, 512)
    stem_width: ClassVar[int] = 64


@MODELS.register("resnet34_sep")
@dataclass(frozen=True, kw_only=True)
class ResNet34SepConfig(ResNet34Config):
    """ResNet-34 with separable 3 x 3."""

    name: ClassVar[str] = "resnet34_sep"
    summary: ClassVar[str] = "ResNet-34, each 3x3 depth-wise followed by a 1x1 round"
    block: ClassVar[type[ResidualTransform]] = Separable


@MODELS.register("resnet50")
@dataclass(frozen=True, kw_only=True)
class ResNet50Config(ResNetConfig):
    """ResNet-50."""

    name: ClassVar[str] = "resnet50"
    summary: ClassVar[str] = "bottlenecks 3-4-6-3 of 256 to 2048, inner width a quarter"
    block: ClassVar[type[ResidualTransform]] = Bottleneck
    depths: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    widths: ClassVar[tuple[int, ...]] = (256, 512, 1024, 2048)
    stem_width: ClassVar[int] = 64

    shortcut: Literal["relational", "dense"] = "dense"


@MODELS.register("resnet20")
@dataclass(frozen=True, kw_only=True)
class ResNet20Config(ResNetConfig):
    """ResNet-20 for small images."""

    name: ClassVar[str] = "resnet20"
    summary: ClassVar[str] = "for 32x32: basic blocks 3-3-3 of 16 to 64"
    default_graph: ClassVar[str] = "ws_flex:16,5,0.15,0"
    block: ClassVar[type[ResidualTransform]] = Basic
    depths: ClassVar[tuple[int, ...]] = (3, 3, 3)
    widths: ClassVar[tuple[int, ...]] = (16, 32, 64)
    stem_width: ClassVar[int] = 16
    search: ClassVar[Search] = "nearest"

    num_classes: int = 10
    image_size: int = 32
