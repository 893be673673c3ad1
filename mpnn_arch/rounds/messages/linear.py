"""The paper's message for an MLP: a matrix on every edge."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.initial import fan_in_bound, fill_uniform, new_parameter


@message_functions.register("linear")
class LinearMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu x_u, with its own matrix W_vu on every edge.

    Only real channels have parameters: W_vu is (size_v, size_u), and ``weight`` holds the
    entries of all of them in the layout of :mod:`mpnn_arch.kernels.plan`.

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **weight:** (num_weights,)
        - **x_j:** (E, B, largest_in), **output:** (E, B, largest_out)

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
        >>> type(layer.message_function).__name__, layer.weight.shape  # 12 edges, each 2 x 2
        ('LinearMessage', torch.Size([48]))
    """

    fusable = True
    plan_layout = True
    maps_instead = "conv"

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        self.weight = new_parameter(plan.num_weights, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform in +-1/sqrt(fan_in_v) at node v: ``nn.Linear``'s rule."""
        fill_uniform(self.weight, fan_in_bound(self.plan, 1, self.initial_gain), generator)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in) -> (E, B, largest_out)."""
        return torch.bmm(x_j, self.edge_blocks(edges).transpose(1, 2))
