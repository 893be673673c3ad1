"""A message through a bottleneck on every edge."""

from typing import Any

import torch
from torch import Tensor

from mpnn_arch.checks import whole_number
from mpnn_arch.kernels.geometry import POINTWISE
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import EdgeProduct


@message_functions.register("low_rank")
class LowRankMessage(MessageFunction):
    r"""f_vu(x_u) = U_vu (V_vu x_u), a matrix of rank r on every edge.

    Costs r (size_v + size_u) instead of size_v size_u. Over maps V_vu is a stack of r kernels and
    U_vu mixes the r maps pixel by pixel.

    Args:
        plan: index tensors of the round.
        rank: r, at least 1; None for a quarter of the smaller of the largest shares in and out.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **down.weight:** (sum over edges of r * size_u,) or (..., K, K)
        - **up.weight:** (sum over edges of size_v * r,) or (..., 1, 1)
        - **x_j:** (E, B, largest_in, ...), **output:** (E, B, largest_out, ...)

    Raises:
        InputError: a rank that is no integer of at least 1.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> kwargs = {"message": "low_rank", "message_kwargs": {"rank": 2}}
        >>> layer = RelationalLinear(graphs.ring(4, 2), 64, 64, **kwargs)
        >>> layer.message_function.multiply_adds()  # 12 edges, each 2 x (16 + 16)
        768
    """

    def __init__(self, plan: RoundPlan, *, rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        if rank is None:
            rank = max(1, min(plan.largest_in, plan.largest_out) // 4)
        rank = whole_number("the rank of a message", rank)
        self.rank = rank
        self.down = EdgeProduct(plan, self.geometry, rows=rank, **self.factory)
        self.up = EdgeProduct(plan, self.geometry and POINTWISE, columns=rank, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """V preserves the scale of x_u; U gives the sum the scale of ``linear``."""
        self.down.reset_parameters(generator, 3**0.5, fan_in=self.down.columns)
        self.up.reset_parameters(generator, self.initial_gain)

    def forward(self, x_j: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        return self.up(self.down(x_j, edges), edges)

    def extra_repr(self) -> str:
        """Edges, rank, and the kernel's geometry."""
        return f"{super().extra_repr()}, rank={self.rank}"
