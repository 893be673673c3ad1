"""The paper's 5-layer MLP: a dense stem, three rounds, a dense head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mpnn_arch.models.config import ModelConfig
from mpnn_arch.models.layers import Layers, relu
from mpnn_arch.models.linear_product import linear_product
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS


@MODELS.register("mlp")
@dataclass(frozen=True, kw_only=True)
class MLPConfig(ModelConfig):
    """in -> 512 (dense) -> w -> w -> w (rounds) -> classes (dense).

    Args:
        in_features: input features; None: those of an image, in_channels * image_size^2.
        hidden_features: width of the stem, and of the rounds on the complete graph.
        num_rounds: rounds between stem and head.

    Source: You, Leskovec, He, Xie, ICML 2020, section 4.1. Its text gives 2.89e6 multiply-adds,
    which are five hidden layers; its runs used three, 2,364,416, as here.
    """

    name: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "3 rounds of 512 between a dense stem and head"

    num_classes: int = 10
    image_size: int = 32
    in_features: int | None = None
    hidden_features: int = 512
    num_rounds: int = 3

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """One stage: the width of every round."""
        return (self.scaled(self.hidden_features),)

    @property
    def features(self) -> int:
        """Input features."""
        if self.in_features is not None:
            return self.in_features
        return self.in_channels * self.image_size**2

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(in_features,)"""
        return (self.features,)

    def count(self, meter: Meter, widths: Sequence[int]) -> None:
        """The layers' cost."""
        stem = self.scaled(self.hidden_features)
        meter.linear(self.features, stem)
        meter.start_stage(0)
        for index in range(self.num_rounds):
            meter.round(stem if index == 0 else widths[0], widths[0])
        meter.linear(widths[0], self.num_classes)

    def make(self, layers: Layers, widths: Sequence[int]) -> nn.Module:
        """The network."""
        return MLP(self, layers, widths[0])


class MLP(nn.Module):
    """Dense stem, rounds, dense head; an image is flattened.

    Shapes:
        - **x:** (B, in_features), or (B, C, H, W) with C * H * W = in_features
        - **output:** (B, num_classes)
    """

    def __init__(self, config: MLPConfig, layers: Layers, width: int) -> None:
        super().__init__()
        stem = config.scaled(config.hidden_features)
        self.stem = layers.vectors(config.features, stem)
        layers.start_stage(0)
        self.rounds = nn.Sequential()
        for index in range(config.num_rounds):
            before = stem if index == 0 else width
            self.rounds.append(layers.round(before, width, norm=True, activation=relu))
        self.head = layers.linear(width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        return linear_product(self.head, self.rounds(self.stem(x.flatten(1))))
