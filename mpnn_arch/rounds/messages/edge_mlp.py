"""A two-layer MLP on every edge."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.checks import whole_number
from mpnn_arch.kernels.geometry import POINTWISE
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("edge_mlp")
class EdgeMLPMessage(MessageFunction):
    r"""f_vu(x_u) = W2_vu relu(W1_vu x_u + b1_vu) + b2_vu, a two-layer MLP on every edge.

    Over maps W1_vu is a stack of kernels and W2_vu mixes the hidden maps pixel by pixel.

    Args:
        plan: index tensors of the round.
        hidden_channels: channels between the layers, on every edge; None for the largest share
            of the output.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **inner.weight:** (sum over edges of hidden * size_u,) or (..., K, K)
        - **outer.weight:** (sum over edges of size_v * hidden,) or (..., 1, 1)
        - **x_j:** (E, B, largest_in, ...), **output:** (E, B, largest_out, ...)

    Raises:
        InputError: hidden channels that are no integer of at least 1.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, message="edge_mlp")
        >>> layer(torch.zeros(3, 8)).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, plan: RoundPlan, *, hidden_channels: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(plan, **kwargs)
        hidden = plan.largest_out if hidden_channels is None else hidden_channels
        hidden = whole_number("hidden_channels of an edge MLP", hidden)
        self.hidden_channels = hidden
        pointwise = self.geometry and POINTWISE
        self.inner = EdgeProduct(plan, self.geometry, rows=hidden, bias=True, **self.factory)
        self.outer = EdgeProduct(plan, pointwise, columns=hidden, bias=True, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """The inner layer preserves the scale of x_u; the outer one sets that of the sum."""
        self.inner.reset_parameters(generator, 6**0.5, fan_in=self.inner.columns)
        if self.inner.bias is not None and not self.inner.bias.is_meta:
            torch.nn.init.zeros_(self.inner.bias)
        self.outer.reset_parameters(generator, self.initial_gain)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        return self.outer(self.inner(x_j, edges).relu(), edges)

    def extra_repr(self) -> str:
        """Edges, hidden channels, and the kernel's geometry."""
        return f"{super().extra_repr()}, hidden_channels={self.hidden_channels}"
