"""What SAGE and Graph have in common."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from mpnn_arch.checks import whole_number
from mpnn_arch.rounds.gnn.linear import linear
from mpnn_arch.rounds.graph_round import GraphRound
from mpnn_arch.rounds.initial_scale import redraw
from mpnn_arch.rounds.lazy_channels import channel_pair
from mpnn_arch.rounds.share_projection import widening

# Parts of a round for which the update of these layers has no place.
NO_SIGMA = ("norm", "activation", "squeeze", "residual")


class LinearOfNeighbours(GraphRound):
    """x_v' = W1 AGG(x_u) + b + W2 x_v.

    Args:
        in_channels: of every node, or a pair, of senders and receivers; -1 where unknown.
        out_channels: of every node.
        aggr: see :class:`GraphRound`.
        bias: whether b is added.
        root: whether W2 x_v is added.
        project: whether there is a linear map for the messages.
        aggr_kwargs: arguments of the aggregation.
        flow: see :class:`GraphRound`.
        generator: draws the initial parameters.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: Any,
        *,
        bias: bool = True,
        root: bool = True,
        project: bool = False,
        aggr_kwargs: dict[str, Any] | None = None,
        flow: str = "source_to_target",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        width, _ = channel_pair(in_channels)
        out_channels = whole_number("out_channels", out_channels)
        if aggr == "lstm":
            widths = {"in_channels": width, "out_channels": width}
            aggr_kwargs = widths | (aggr_kwargs or {})
        super().__init__(
            in_channels,
            width,
            "identity",
            aggr,
            bias=False,
            aggr_kwargs=aggr_kwargs,
            flow=flow,
            generator=generator,
            **factory,
        )
        self.out_channels = out_channels
        source, target = self.source_channels, self.target_channels
        wide = source * widening(self.aggr_module, source)
        self.projection = None  # W1 reads all that a wide aggregation returns
        self.neighbours = linear(wide, out_channels, bias, generator, **factory)
        self.root = linear(target, out_channels, False, generator, **factory) if root else None
        self.project = linear(source, source, True, generator, **factory) if project else None

    def update(self, inputs: Tensor, root: OptTensor) -> Tensor:  # type: ignore[override]
        """(B * M, k * in_channels), (B * M, in_channels) -> (B * M, out_channels)."""
        out: Tensor = self.neighbours(inputs)
        return out if self.root is None or root is None else out + self.root(root)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters."""
        super().reset_parameters(generator)
        for name in ("neighbours", "root", "project"):
            if getattr(self, name, None) is not None:  # the round resets itself before it has them
                redraw(getattr(self, name), generator)
