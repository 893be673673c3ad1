"""A matrix and a bias on every edge."""

from typing import Any

from torch import Tensor

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("affine")
class AffineMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu x_u + b_vu, with a bias on every edge.

    Under a sum the biases of a node's edges add up to one; under max, softmax and their like each
    edge shifts its own message. Over maps, W_vu is a stack of kernels.

    Args:
        plan: index tensors of the round.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **product.weight:** (sum over edges of size_v * size_u,) or (..., K, K)
        - **product.bias:** (sum over edges of size_v,)
        - **x_j:** (E, B, largest_in, ...), **output:** (E, B, largest_out, ...)

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, message="affine", bias=False)
        >>> sum(p.numel() for p in layer.parameters())  # 12 edges, each 2 x 2 + 2
        72
    """

    def __init__(self, plan: RoundPlan, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        self.product = EdgeProduct(plan, self.geometry, bias=True, **self.factory)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        return self.product(x_j, edges)
