"""Messages whose parameters all edges share, as in a graph neural network."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch.kernels.dispatch.tracing import jit_tracing
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.initial import fill_uniform, new_parameter
from mpnn_arch.rounds.messages.scalar import require_equal_shares


class _SharedMessage(MessageFunction):
    """One matrix, or stack of kernels, for all edges; smaller shares use its first channels."""

    shared = True

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        kernel = self.geometry.kernel_size if self.geometry else ()
        shape = (plan.largest_out, plan.largest_in, *kernel)
        self.weight = new_parameter(*shape, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform; a node of average degree starts at the scale of separate weights."""
        fan_in = (self.plan.fan_in.cpu() * self.kernel_area).to(torch.float64)
        bound = float((self.initial_gain.square() / fan_in).mean().sqrt())
        fill_uniform(self.weight, bound, generator)

    def flat_weight(self) -> Tensor:
        """(num_weights, ...) the shared weight repeated along the edges; see ``kernels.plan``."""
        blocks = self.plan.block_index.flatten()
        shared = torch.arange(blocks.numel() // self.plan.num_edges, device=blocks.device)
        entry = torch.zeros(self.plan.num_weights + 1, dtype=torch.int64, device=blocks.device)
        entry = entry.scatter(0, blocks, shared.repeat(self.plan.num_edges))
        return self.weight.flatten(0, 1)[entry[:-1]]


@message_functions.register("shared_linear")
class SharedLinearMessage(_SharedMessage):
    r"""f(x_u) = W x_u, one matrix for all edges: the message of a GCN (the paper's Equation 6).

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **weight:** (largest_out, largest_in)
        - **x_j:** (E, B, largest_in), **output:** (E, B, largest_out)

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.2.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, message="shared_linear", bias=False)
        >>> layer.weight.shape  # one matrix for all 12 edges
        torch.Size([2, 2])
    """

    fusable = True
    maps_instead = "shared_conv"

    def forward(self, x_j: Tensor) -> Tensor:
        """(E, B, largest_in) -> (E, B, largest_out)."""
        return F.linear(x_j, self.weight)


@message_functions.register("shared_conv")
class SharedConvMessage(_SharedMessage):
    r"""f(x_u) = W * x_u, one stack of kernels for all edges.

    Args:
        plan: index tensors of the round.
        **kwargs: the kernel's geometry and more, as for :class:`MessageFunction`.

    Shapes:
        - **weight:** (largest_out, largest_in, K, K)
        - **x_j:** (E, B, largest_in, H, W), **output:** (E, B, largest_out, H', W')

    Example:
        >>> from mpnn_arch import RelationalConv2d, graphs
        >>> layer = RelationalConv2d(
        ...     graphs.ring(4, 2), 8, 8, kernel_size=3, message="shared_conv", bias=False
        ... )
        >>> layer.weight.shape  # one stack of kernels for all 12 edges
        torch.Size([2, 2, 3, 3])
    """

    fusable = True
    vectors_instead = "shared_linear"
    geometry: ConvGeometry

    def forward(self, x_j: Tensor) -> Tensor:
        """(E, B, largest_in, H, W) -> (E, B, largest_out, H', W')."""
        g = self.geometry
        if not (torch.compiler.is_compiling() or jit_tracing()):
            g = g.within(x_j.shape[-2:])
        maps = F.conv2d(x_j.flatten(0, 1), self.weight, None, g.stride, g.padding, g.dilation)
        return maps.unflatten(0, x_j.shape[:2])


@message_functions.register("identity")
class IdentityMessage(MessageFunction):
    r"""f(x_u) = x_u: the neighbours' features, unchanged, as in a GIN.

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **x_j** and **output:** (E, B, channels of a share)

    Raises:
        InputError: shares of different sizes.

    Example:
        >>> import torch
        >>> from mpnn_arch import GraphRound
        >>> layer = GraphRound(2, 2, "identity", bias=False)
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> layer(x, torch.tensor([[0], [1]]))  # node 1 receives node 0's features
        tensor([[0., 0.],
                [1., 2.]])
    """

    shared = True
    maps_instead = "scalar"

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        require_equal_shares(plan, "identity", "shared_linear")

    def forward(self, x_j: Tensor) -> Tensor:
        """(E, B, C) -> (E, B, C)."""
        return x_j
