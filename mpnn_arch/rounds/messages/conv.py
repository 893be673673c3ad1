"""The paper's message for a CNN: a stack of kernels on every edge."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_convolution import conv_by_edge
from mpnn_arch.rounds.messages.initial import fan_in_bound, fill_uniform, new_parameter


@message_functions.register("conv")
class ConvMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu * x_u, a convolution with its own kernels on every edge.

    A node's share is a stack of maps; W_vu is (size_v, size_u, K, K).

    Args:
        plan: index tensors of the round.
        **kwargs: the kernel's geometry and more, as for :class:`MessageFunction`.

    Shapes:
        - **weight:** (num_weights, K, K)
        - **x_j:** (E, B, largest_in, H, W), **output:** (E, B, largest_out, H', W')

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.

    Example:
        >>> from mpnn_arch import RelationalConv2d, graphs
        >>> layer = RelationalConv2d(graphs.ring(4, 2), 8, 8, kernel_size=3)
        >>> type(layer.message_function).__name__, layer.weight.shape  # 12 edges: 2 x 2 kernels
        ('ConvMessage', torch.Size([48, 3, 3]))
    """

    fusable = True
    plan_layout = True
    vectors_instead = "linear"
    geometry: ConvGeometry

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        kernel_size = self.geometry.kernel_size
        self.weight = new_parameter(plan.num_weights, *kernel_size, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform in +-1/sqrt(fan_in_v K K), fan_in_v in maps: ``nn.Conv2d``'s rule."""
        bound = fan_in_bound(self.plan, self.kernel_area, self.initial_gain)
        fill_uniform(self.weight, bound, generator)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, H, W) -> (E, B, largest_out, H', W')."""
        return conv_by_edge(x_j, self.edge_blocks(edges), self.geometry)
