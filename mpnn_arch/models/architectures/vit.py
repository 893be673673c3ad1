"""A vision transformer whose projections are rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from mpnn_arch.models.architectures.patches import PatchConfig
from mpnn_arch.models.blocks import AttentionProduct, FeedForward, sum_with
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.linear_product import linear_product
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


@MODELS.register("vit")
@dataclass(frozen=True, kw_only=True)
class ViTConfig(PatchConfig):
    """ViT-Ti: 12 blocks of width 192, 3 heads, an MLP of 4 times the width.

    The projections to queries, keys and values, the one after attention, and the two layers of the
    MLP are rounds, six per block. Patches, class token, positions and head are dense. The attention
    width is the nearest multiple of the heads to the token width.

    Source: Dosovitskiy et al., ICLR 2021; size Ti from Touvron et al., ICML 2021. Its relational
    form is ours.
    """

    name: ClassVar[str] = "vit"
    summary: ClassVar[str] = "ViT-Ti: attention projections and MLP are rounds"
    default_init: ClassVar[Literal["published", "kaiming"]] = "kaiming"
    width: ClassVar[int] = 192
    depth: ClassVar[int] = 12
    num_heads: ClassVar[int] = 3
    mlp_ratio: ClassVar[int] = 4

    def attention_width(self, width: int) -> int:
        """Channels of queries, keys and values, all heads together."""
        return self.num_heads * max(1, round(width / self.num_heads))

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        width, tokens = widths[0], self.num_patches + 1
        inner = self.attention_width(width)
        meter.linear(self.in_channels * self.patch**2, width, self.num_patches)
        for block in range(self.depth):
            meter.start_stage(block, f"block {block + 1}")
            for _ in range(3):
                meter.round(width, inner, tokens)
            meter.multiply_adds += AttentionProduct.multiply_adds(tokens, inner)
            meter.round(inner, width, tokens)
            meter.round(width, self.mlp_ratio * width, tokens)
            meter.round(self.mlp_ratio * width, width, tokens)
        meter.linear(width, self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return ViT(self, layers, widths[0])


class Attention(nn.Module):
    """Multi-head self-attention whose four projections are rounds.

    Shapes:
        - **x:** (B, tokens, width)
        - **output:** (B, tokens, width)
    """

    def __init__(self, layers: Layers, width: int, inner: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = layers.round(width, inner, bias=True)
        self.key = layers.round(width, inner, bias=True)
        self.value = layers.round(width, inner, bias=True)
        self.product = AttentionProduct()
        self.out = layers.round(inner, width, bias=True)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Self-attention over the tokens; the output projection adds ``residual``."""
        heads = (
            project(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, tokens, d)
            for project in (self.query, self.key, self.value)
        )
        attended = self.product(*heads).transpose(1, 2).flatten(2)
        return sum_with(self.out, attended, residual)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, layers: Layers, config: ViTConfig, width: int) -> None:
        super().__init__()
        self.attention_norm = layers.layer_norm(width)
        inner = config.attention_width(width)
        self.attention = Attention(layers, width, inner, config.num_heads)
        self.mlp_norm = layers.layer_norm(width)
        hidden = config.mlp_ratio * width
        self.mlp = FeedForward(layers, width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) -> (B, tokens, width)."""
        x = self.attention(self.attention_norm(x), residual=x)
        return cast(Tensor, self.mlp(self.mlp_norm(x), residual=x))


class ViT(nn.Module):
    """Dense patches, transformer blocks of rounds, dense head on the class token.

    Shapes:
        - **x:** (B, C, H, W)
        - **output:** (B, num_classes)
    """

    embeddings = ("class_token", "positions")

    def __init__(self, config: ViTConfig, layers: Layers, width: int) -> None:
        super().__init__()
        self.stem = layers.patches(config.in_channels, width, config.patch)
        self.class_token = layers.parameter(1, 1, width)
        self.positions = layers.parameter(1, config.num_patches + 1, width)
        self.blocks = nn.Sequential()
        for block in range(config.depth):
            layers.start_stage(block, f"block {block + 1}")
            self.blocks.append(TransformerBlock(layers, config, width))
        self.norm = layers.layer_norm(width)
        self.head = layers.linear(width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # (B, patches, width)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        tokens = self.blocks(tokens + self.positions)
        return linear_product(self.head, self.norm(tokens[:, 0]))
