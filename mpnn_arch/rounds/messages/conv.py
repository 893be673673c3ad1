"""The paper's message for a CNN: a stack of kernels on every edge."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.kernels import masked
from mpnn_arch.kernels.block_matmul import Backend, block_conv2d
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import ALL_EDGES
from mpnn_arch.rounds.messages.geometry import Geometry, conv_by_edge
from mpnn_arch.rounds.messages.initial import fan_in_bound, fill_uniform


@message_functions.register("conv")
class ConvMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu * x_u, a convolution with its own kernels on every edge.

    A node holds a stack of maps; W_vu is (size_v, size_u, K, K).

    Args:
        plan: where the shares and weights of the round lie.
        **kwargs: the kernel's geometry and more, as for :class:`MessageFunction`.

    Shapes:
        - **weight:** (num_weights, K, K)
        - **x_j:** (E, B, largest_in, H, W), **output:** (E, B, largest_out, H', W')

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.
    """

    fusable = True
    uses_block_index = True
    vectors_instead = "linear"
    geometry: Geometry

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        kernel_size = self.geometry.kernel_size
        self.weight = nn.Parameter(torch.empty(plan.num_weights, *kernel_size, **self.factory))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform in +-1/sqrt(K_v K K), K_v the maps node v hears: ``nn.Conv2d``'s rule."""
        bound = fan_in_bound(self.plan, self.kernel_area, self.gain)
        fill_uniform(self.weight, bound, generator)

    def edge_blocks(self, edges: slice = ALL_EDGES) -> Tensor:
        """Every W_vu, zero-padded: (E, largest_out, largest_in, K, K)."""
        return F.pad(self.weight, [0, 0, 0, 0, 0, 1])[self.plan.block_index[edges]]

    def forward(
        self, x_j: Tensor, x_i: Tensor | None, index: Tensor, edges: slice = ALL_EDGES
    ) -> Tensor:
        """(E, B, largest_in, H, W) -> (E, B, largest_out, H', W')."""
        return conv_by_edge(x_j, self.edge_blocks(edges), self.geometry)

    def fused(self, x: Tensor, backend: Backend) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H', W'), one convolution with the gathered kernels."""
        g = self.geometry
        return block_conv2d(x, self.weight, self.plan, g.stride, g.padding, g.dilation, backend)

    def dense_weight(self) -> Tensor:
        """(C_out, C_in, K, K), zero where the graph has no edge."""
        return masked.dense_weight(self.weight, self.plan)

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """One per weight and output pixel."""
        return self.plan.num_weights * self.kernel_area * math.prod(spatial_size)
