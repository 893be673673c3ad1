"""Blocks shared by the architectures; each makes its layers through a factory."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mpnn_arch.models.layers import Layers


class Vectors(nn.Sequential):
    """layer, BatchNorm, ReLU over vectors: sigma of what the layer aggregates."""

    def __init__(self, layers: Layers, layer: nn.Module, out_features: int) -> None:
        super().__init__()
        self.layer = layer
        self.norm = layers.batch_norm(out_features, spatial=False)
        self.act = nn.ReLU(inplace=True)


class Maps(nn.Sequential):
    """layer, BatchNorm and an activation over maps."""

    def __init__(
        self,
        layers: Layers,
        layer: nn.Module,
        out_channels: int,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.norm = layers.batch_norm(out_channels)
        if activation is not None:
            self.act = activation(inplace=True)


class MeanPoolHead(nn.Module):
    """The mean pixel, then a dense linear layer to the classes."""

    def __init__(self, layers: Layers, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = layers.linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return cast(Tensor, self.linear(x.mean(dim=(2, 3))))
