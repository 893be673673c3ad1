"""The dense counterpart of a round, for models without a graph and for stems."""

from __future__ import annotations

from torch import Tensor, nn


class Dense(nn.Module):
    """A dense layer with norm, residual and activation: a round on the complete graph.

    Args:
        layer: linear or a conv.
        norm: of its output; None for none.
        activation: applied last; None for none.

    Shapes: those of ``layer``; **residual** as its output
    """

    def __init__(
        self, layer: nn.Module, norm: nn.Module | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.layer, self.norm, self.act = layer, norm, activation

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """activation(norm(layer(x)) + residual)."""
        x = self.layer(x)
        if self.norm is not None:
            x = self.norm(x)
        if residual is not None:
            x = residual + x
        return x if self.act is None else self.act(x)
