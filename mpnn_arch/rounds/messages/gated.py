"""A linear message multiplied by a sigmoid gate."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("gated")
class GatedMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu x_u * sigmoid(V_vu x_u), elementwise; twice the cost of ``linear``.

    Over maps, W_vu and V_vu are stacks of kernels.

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **value.weight**, **gate.weight:** (sum over edges of size_v * size_u,) or (..., K, K)
        - **x_j:** (E, B, largest_in, ...), **output:** (E, B, largest_out, ...)

    Source: Dauphin et al., *Language Modeling with Gated Convolutional Networks*, ICML 2017, here
    on every edge.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> gated, linear = (
        ...     RelationalLinear(graphs.ring(4, 2), 8, 8, message=name, bias=False)
        ...     for name in ("gated", "linear")
        ... )
        >>> sum(p.numel() for p in gated.parameters()) / linear.weight.numel()
        2.0
    """

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        self.value = EdgeProduct(plan, self.geometry, **self.factory)
        self.gate = EdgeProduct(plan, self.geometry, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """W at twice the scale of ``linear``, as a gate starts at about 1/2."""
        self.value.reset_parameters(generator, 2 * self.initial_gain)
        self.gate.reset_parameters(generator, fan_in=self.gate.columns)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        return self.value(x_j, edges) * self.gate(x_j, edges).sigmoid()
