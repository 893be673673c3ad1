"""MLP-Mixer with channel-mixing MLPs of rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from mpnn_arch.models.architectures.patches import PatchConfig
from mpnn_arch.models.blocks import FeedForward
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.linear_product import linear_product
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


@MODELS.register("mlp_mixer")
@dataclass(frozen=True, kw_only=True)
class MLPMixerConfig(PatchConfig):
    """Mixer-S/16: 8 blocks of width 512, token MLPs of 256, channel MLPs of 2048.

    The two layers of each channel MLP are rounds. The token MLPs mix patches, not channels, and
    stay dense, as do patches and head.

    Source: Tolstikhin et al., NeurIPS 2021. Its relational form is ours.
    """

    name: ClassVar[str] = "mlp_mixer"
    summary: ClassVar[str] = "Mixer-S/16: the channel-mixing MLPs are rounds"
    default_init: ClassVar[Literal["published", "kaiming"]] = "kaiming"
    width: ClassVar[int] = 512
    depth: ClassVar[int] = 8
    mlp_ratio: ClassVar[int] = 4

    @property
    def token_width(self) -> int:
        """Hidden width of the token MLPs."""
        return self.scaled(256)

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        width, patches = widths[0], self.num_patches
        meter.linear(self.in_channels * self.patch**2, width, patches)
        for block in range(self.depth):
            meter.start_stage(block, f"block {block + 1}")
            meter.linear(patches, self.token_width, width)
            meter.linear(self.token_width, patches, width)
            meter.round(width, self.mlp_ratio * width, patches)
            meter.round(self.mlp_ratio * width, width, patches)
        meter.linear(width, self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return MLPMixer(self, layers, widths[0])


class TokenMLP(nn.Sequential):
    """Two dense layers over the patches of every channel, with GELU between them.

    Shapes:
        - **x** and **output:** (B, width, patches)
    """

    def __init__(self, layers: Layers, patches: int, hidden: int) -> None:
        super().__init__(layers.linear(patches, hidden), nn.GELU(), layers.linear(hidden, patches))

    def forward(self, x: Tensor) -> Tensor:
        """W2 gelu(W1 x)."""
        first, activation, second = self
        return linear_product(second, activation(linear_product(first, x)))


class MixerBlock(nn.Module):
    """Tokens mix channel by channel (dense), then channels mix token by token (rounds)."""

    def __init__(self, layers: Layers, config: MLPMixerConfig, width: int) -> None:
        super().__init__()
        patches, hidden = config.num_patches, config.mlp_ratio * width
        self.token_norm = layers.layer_norm(width)
        self.token_mlp = TokenMLP(layers, patches, config.token_width)
        self.channel_norm = layers.layer_norm(width)
        self.channel_mlp = FeedForward(layers, width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, patches, width) -> (B, patches, width)."""
        x = x + self.token_mlp(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return cast(Tensor, self.channel_mlp(self.channel_norm(x), residual=x))


class MLPMixer(nn.Module):
    """Dense patches, mixer blocks, dense head on the mean token.

    Shapes:
        - **x:** (B, C, H, W)
        - **output:** (B, num_classes)
    """

    def __init__(self, config: MLPMixerConfig, layers: Layers, width: int) -> None:
        super().__init__()
        self.stem = layers.patches(config.in_channels, width, config.patch)
        self.blocks = nn.Sequential()
        for block in range(config.depth):
            layers.start_stage(block, f"block {block + 1}")
            self.blocks.append(MixerBlock(layers, config, width))
        self.norm = layers.layer_norm(width)
        self.head = layers.linear(width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # (B, patches, width)
        return linear_product(self.head, self.norm(self.blocks(tokens)).mean(dim=1))
