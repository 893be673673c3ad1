"""A depthwise separable convolution on every edge."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels.geometry import POINTWISE, ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_convolution import depthwise_by_edge
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("separable_conv")
class SeparableConvMessage(MessageFunction):
    r"""f_vu(x_u) = P_vu (D_vu * x_u): a kernel for every map, then a matrix at every pixel.

    Costs size_u (K K + size_v) a pixel instead of size_u size_v K K.

    Args:
        plan: index tensors of the round.
        **kwargs: the kernel's geometry and more, as for :class:`MessageFunction`.

    Shapes:
        - **depthwise.weight:** (sum over edges of size_u, K, K)
        - **pointwise.weight:** (sum over edges of size_v * size_u, 1, 1)
        - **x_j:** (E, B, largest_in, H, W), **output:** (E, B, largest_out, H', W')

    Source: Chollet, *Xception*, CVPR 2017, here on every edge.

    Example:
        >>> from mpnn_arch import RelationalConv2d, graphs
        >>> layer = RelationalConv2d(
        ...     graphs.ring(4, 2), 8, 8, kernel_size=3, message="separable_conv", bias=False
        ... )
        >>> sum(p.numel() for p in layer.parameters())  # 12 edges: 2 kernels of 9, then 2 x 2
        264
    """

    vectors_instead = "linear"
    geometry: ConvGeometry

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        senders = plan.in_sizes[plan.source]
        self.depthwise = EdgeProduct(plan, self.geometry, rows=senders, columns=1, **self.factory)
        self.pointwise = EdgeProduct(plan, POINTWISE, columns=senders, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """D preserves the scale of a map; P gives the sum the scale of ``conv``."""
        self.depthwise.reset_parameters(generator, 3**0.5, fan_in=self.depthwise.columns)
        self.pointwise.reset_parameters(generator, self.initial_gain)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, H, W) -> (E, B, largest_out, H', W')."""
        kernels = self.depthwise.blocks(edges).squeeze(2)
        x_j = x_j[:, :, : kernels.shape[1]]  # the node with the largest share may send to none
        return self.pointwise(depthwise_by_edge(x_j, kernels, self.geometry), edges)
