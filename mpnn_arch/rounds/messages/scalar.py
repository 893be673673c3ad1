"""The message of a fixed-width MLP: one number on every edge."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import DtypeError, InputError
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_convolution import depthwise_by_edge
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("scalar")
class ScalarMessage(MessageFunction):
    r"""f_vu(x_u) = w_vu x_u, one number on every edge.

    With one channel per node it is the fixed-width MLP of section 2.2. With shares of several
    channels, all of one size, the number scales the whole share; over maps w_vu is one kernel,
    applied to every map of the share.

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **scale.weight:** (E,) or (E, K, K)
        - **x_j** and **output:** (E, B, channels of a share, ...)

    Raises:
        InputError: shares of different sizes; over vectors, input of another dtype than the
            weights.

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.2.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, message="scalar", bias=False)
        >>> sum(p.numel() for p in layer.parameters())  # one for each of the 12 edges
        12
    """

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        require_equal_shares(plan, "scalar", "affine" if self.geometry else "linear")
        self.scale = EdgeProduct(plan, self.geometry, rows=1, columns=1, **self.factory)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, C, ...) -> (E, B, C, ...)."""
        scale = self.scale.blocks(edges)
        if self.geometry is None:
            # A product of numbers would promote either, where a matrix product refuses.
            if scale.dtype != x_j.dtype and not torch.is_autocast_enabled(x_j.device.type):
                raise DtypeError(
                    f"the input is {x_j.dtype} and the weights are {scale.dtype}: convert "
                    f"the input by x.to({scale.dtype}), or the layer by layer.to({x_j.dtype})"
                )
            return x_j * scale
        kernels = scale[:, 0].expand(-1, x_j.shape[2], -1, -1)
        return depthwise_by_edge(x_j, kernels, self.geometry)

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """One per edge and channel of a share, kernel weight and output pixel."""
        return self.scale.multiply_adds(spatial_size) * self.plan.largest_in


def require_equal_shares(plan: RoundPlan, message: str, instead: str) -> None:
    """Reject a round whose nodes have different numbers of input or output channels.

    Raises:
        InputError: shares of different sizes.
    """
    sizes = torch.cat([plan.in_sizes, plan.out_sizes])
    if int(sizes.min()) != int(sizes.max()):
        raise InputError(
            f"message={message!r} does not change the channels of a share, so all shares must be "
            f"of one size; they are of {int(sizes.min())} to {int(sizes.max())} channels: use "
            f"as many channels in as out, a multiple of {plan.num_nodes}, or message={instead!r}"
        )
