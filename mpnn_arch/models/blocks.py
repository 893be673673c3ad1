"""Blocks shared by the architectures; a factory builds their layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mpnn_arch.models.dense import Dense
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.linear_product import linear_product
from mpnn_arch.rounds import MessageRound


def halving_stages(
    depths: Sequence[int], widths: Sequence[int], width: int
) -> list[list[tuple[int, int, int]]]:
    """(in_channels, out_channels, stride) of every block, stage by stage.

    The first block of every stage but the first has stride 2.

    Args:
        depths: blocks of each stage.
        widths: output channels of each stage.
        width: input channels of the first.
    """
    stages = []
    for stage, (depth, out_channels) in enumerate(zip(depths, widths, strict=True)):
        stride = 2 if stage > 0 else 1
        rest = [(out_channels, out_channels, 1)] * (depth - 1)
        stages.append([(width, out_channels, stride), *rest])
        width = out_channels
    return stages


class Staged(nn.Module):
    """A stem, stages of blocks and a head, one after the other.

    Shapes:
        - **x:** (B, C, H, W)
        - **output:** (B, num_classes)
    """

    stem: nn.Module
    stages: nn.Sequential
    head: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        return cast(Tensor, self.head(self.stages(self.stem(x))))


class MeanPoolHead(nn.Module):
    """Global average pooling, then a dense linear layer to the classes."""

    def __init__(self, layers: Layers, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = layers.linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return linear_product(self.linear, x.mean(dim=(2, 3)))


class SqueezeExcitation(nn.Module):
    """Each channel times a gate that two dense layers compute from the global average."""

    def __init__(self, layers: Layers, channels: int, inner: int) -> None:
        super().__init__()
        self.squeeze = layers.conv(channels, inner, bias=True)
        self.excite = layers.conv(inner, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        gate = self.excite(nn.functional.silu(self.squeeze(mean)))
        return x * torch.sigmoid(gate)


class AttentionProduct(nn.Module):
    """softmax(Q K^T / sqrt(d)) V, for each head separately; no parameters."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, heads, tokens, d) each -> (B, heads, tokens, d)."""
        return nn.functional.scaled_dot_product_attention(query, key, value)

    @staticmethod
    def multiply_adds(tokens: int, width: int) -> int:
        """Of Q K^T and of the product with V, over all heads; ``width`` is that of all heads."""
        return 2 * tokens * tokens * width


def sum_with(layer: nn.Module, x: Tensor, residual: Tensor | None) -> Tensor:
    """layer(x) + residual, in the layer where it adds one: a round, or its dense counterpart.

    Other layers can stand in a round's place, as the ``nn.Linear`` of ``to_dense`` and what
    quantisers make of that.
    """
    if isinstance(layer, MessageRound | Dense):
        return cast(Tensor, layer(x, residual))
    return cast(Tensor, layer(x) if residual is None else layer(x) + residual)


class FeedForward(nn.Sequential):
    """Two rounds with GELU between them, as in a transformer's block; the second adds the residual.

    Shapes:
        - **x**, **residual** and **output:** (..., width)
    """

    def __init__(self, layers: Layers, width: int, hidden: int) -> None:
        super().__init__(
            layers.round(width, hidden, bias=True, activation=nn.GELU),
            layers.round(hidden, width, bias=True),
        )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """W2 gelu(W1 x) + residual."""
        first, second = self
        return sum_with(second, first(x), residual)
