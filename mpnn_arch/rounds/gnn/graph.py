"""Graph: a linear map of the weighted sum of the neighbours, plus one of the node itself."""

from typing import Any, ClassVar

from torch_geometric import nn as pyg

from mpnn_arch.rounds.gnn.from_pyg import check_layer, take_over
from mpnn_arch.rounds.gnn.neighbours import NO_SIGMA, LinearOfNeighbours


class Graph(LinearOfNeighbours):
    r"""x_v' = W1 AGG(e_vu x_u) + b + W2 x_v, AGG the sum, e_vu an optional weight of the edge.

    Args:
        in_channels: of every node; a pair, of senders and receivers, where they differ; -1 for
            those of the first input.
        out_channels: of every node.
        aggr: see :class:`GraphRound`.
        bias: whether b is added.
        **kwargs: as for :class:`LinearOfNeighbours`.

    Shapes: **x** (..., N, in_channels), or a pair of them, **edge_index** (2, E), **edge_weight**
    (E,) or None, **output** (..., M, out_channels)

    Source: Morris et al., *Weisfeiler and Leman Go Neural*, AAAI 2019.

    Example:
        >>> import torch
        >>> from mpnn_arch.rounds.gnn import Graph
        >>> layer = Graph(8, 4)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> layer(torch.zeros(2, 8), edge_index, torch.tensor([0.5, 2.0])).shape
        torch.Size([2, 4])
    """

    without: ClassVar[tuple[str, ...]] = NO_SIGMA

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: Any = "sum",
        *,
        bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, aggr, bias=bias, **kwargs)

    @classmethod
    def from_pyg(cls, layer: pyg.GraphConv) -> "Graph":
        """The round with the weights of PyG's layer.

        Raises:
            InputError: a layer, or an argument of it, that has no round.
        """
        check_layer(layer, pyg.GraphConv)
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            layer.aggr_module,
            bias=layer.lin_rel.bias is not None,
            flow=layer.flow,
        )
        copied = {
            "neighbours.weight": layer.lin_rel.weight,
            "neighbours.bias": layer.lin_rel.bias,
            "root.weight": layer.lin_root.weight,
        }
        return take_over(converted, layer, copied)
