"""The dense counterpart of a round, for models without a graph and for stems."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mpnn_arch.models.linear_product import linear_product


class Dense(nn.Module):
    """A dense layer with norm, residual and activation: a round on the complete graph.

    Args:
        layer: linear or a conv.
        norm: of its output; None for none.
        activation: applied last; None for none.
        squeeze: applied after the norm; None for none.
        residual: whether the input is added before the activation where no other tensor is given.

    Shapes: those of ``layer``; **residual** as its output
    """

    def __init__(
        self,
        layer: nn.Module,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        squeeze: nn.Module | None = None,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.layer, self.norm, self.squeeze, self.act = layer, norm, squeeze, activation
        self.residual = residual

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """activation(squeeze(norm(layer(x))) + residual)."""
        if residual is None and self.residual:
            residual = x
        x = linear_product(self.layer, x)
        if self.norm is not None:
            x = self.norm(x)
        if self.squeeze is not None:
            x = self.squeeze(x)
        if residual is not None:
            x = residual + x
        return x if self.act is None else self.act(x)
