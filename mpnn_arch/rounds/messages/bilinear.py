"""A product of projections of the sender's and the receiver's features."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("bilinear")
class BilinearMessage(MessageFunction):
    r"""f_vu(x_u, x_v) = W_vu x_u * V_vu x_v, elementwise: linear in each of the two.

    The factored form of a bilinear map x_v^T A x_u; the full A would cost size_v times as much.
    Over maps, W_vu and V_vu are stacks of kernels.

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **source.weight:** (sum over edges of size_v * size_u,) or (..., K, K)
        - **target.weight:** (sum over edges of size_v * the receiver's input share,) likewise
        - **x_j**, **x_i:** (E, B, largest_in, ...), **output:** (E, B, largest_out, ...)

    Source: Kim et al., *Hadamard Product for Low-rank Bilinear Pooling*, ICLR 2017, here on every
    edge.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, message="bilinear", bias=False)
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> torch.testing.assert_close(layer(2 * x), 4 * layer(x))
    """

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        self.source = EdgeProduct(plan, self.geometry, **self.factory)
        self.target = EdgeProduct(
            plan, self.geometry, columns=plan.in_sizes[plan.target], **self.factory
        )

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """W as ``linear``; V so that V x_v keeps the scale of x_v."""
        self.source.reset_parameters(generator, self.initial_gain)
        self.target.reset_parameters(generator, 3**0.5, fan_in=self.target.columns)

    def forward(self, x_j: Tensor, x_i: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, ...) twice -> (E, B, largest_out, ...)."""
        return self.source(x_j, edges) * self.target(x_i, edges)
