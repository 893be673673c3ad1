"""GIN and GINE: a network of the sum of neighbours and node, without and with edge features."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.typing import OptTensor

from mpnn_arch.checks import check_flag, check_range, shown, whole_number
from mpnn_arch.errors import InputError
from mpnn_arch.rounds.gnn.from_pyg import check_layer, take_over
from mpnn_arch.rounds.gnn.linear import linear
from mpnn_arch.rounds.gnn.neighbours import NO_SIGMA
from mpnn_arch.rounds.graph_input import read_graph
from mpnn_arch.rounds.graph_round import GraphRound
from mpnn_arch.rounds.initial_scale import redraw
from mpnn_arch.rounds.lazy_channels import channel_pair


class GIN(GraphRound):
    r"""x_v' = h((1 + eps) x_v + sum over u in N(v) of x_u), h a small network.

    Args:
        in_channels: of every node; -1 for those of the first input.
        network: h, from (M, in_channels) to (M, out_channels).
        eps: the weight of a node's own features beside its neighbours'.
        train_eps: whether it is learned.
        aggr: in place of the sum, see :class:`GraphRound`.
        aggr_kwargs: arguments of the aggregation.
        flow: see :class:`GraphRound`.

    Shapes: **x** (..., N, in_channels), or a pair of them, **edge_index** (2, E), **output**
    (..., M, out_channels)

    Source: Xu et al., *How Powerful are Graph Neural Networks?*, ICLR 2019.

    Example:
        >>> import torch
        >>> from mpnn_arch.rounds.gnn import GIN
        >>> layer = GIN(2, torch.nn.Identity())
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> layer(x, torch.tensor([[0], [1]]))  # x_v plus its neighbours' features
        tensor([[1., 2.],
                [4., 6.]])
    """

    takes_weights: ClassVar[bool] = False
    without: ClassVar[tuple[str, ...]] = NO_SIGMA

    def __init__(
        self,
        in_channels: int,
        network: nn.Module,
        eps: float = 0.0,
        train_eps: bool = False,
        *,
        aggr: Any = "sum",
        aggr_kwargs: dict[str, Any] | None = None,
        flow: str = "source_to_target",
    ) -> None:
        if isinstance(in_channels, (tuple, list)):
            raise InputError(
                f"a GIN adds senders and receivers, so both have the same channels: give one "
                f"in_channels, not {in_channels!r}"
            )
        if isinstance(network, type) or not callable(network):
            raise InputError(
                "network is a module of torch, such as nn.Sequential(nn.Linear(8, 4), nn.ReLU()), "
                f"not {shown(network)}: create one"
            )
        width, _ = channel_pair(in_channels)
        super().__init__(
            in_channels, width, "identity", aggr, bias=False, aggr_kwargs=aggr_kwargs, flow=flow
        )
        self.initial_eps = check_range("eps", eps, -math.inf, math.inf)
        self.network = network
        self.out_channels = _out_channels_of(network, width)  # type: ignore[assignment]
        self.eps = nn.Parameter(
            torch.tensor(self.initial_eps), requires_grad=check_flag("train_eps", train_eps)
        )

    def forward(  # type: ignore[override]
        self, x: Any, edge_index: Any = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """One round along ``edge_index``."""
        self.fix_channels(x)
        return self.exchange(read_graph(self, x, edge_index, None, size))

    def update(self, inputs: Tensor, root: OptTensor) -> Tensor:  # type: ignore[override]
        """(B * M, in_channels) twice -> (B * M, out_channels)."""
        out: Tensor = self.network(inputs if root is None else inputs + (1 + self.eps) * root)
        return out

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters, those of the network included."""
        super().reset_parameters(generator)
        if hasattr(self, "network"):  # the round resets itself before it has one
            redraw(self.network, generator)
            with torch.no_grad():
                self.eps.fill_(self.initial_eps)

    def extra_repr(self) -> str:
        """What ``repr`` shows before the submodules, of which the network has the output."""
        return f"{self.in_channels}, aggr={self.aggr!r}"

    @classmethod
    def from_pyg(cls, layer: pyg.GINConv, in_channels: int | None = None) -> "GIN":
        """The round with the network of PyG's layer, which both then share.

        Args:
            layer: PyG's.
            in_channels: of every node; None for those that the network shows, or those of the
                first input.

        Raises:
            InputError: a layer, or an argument of it, that has no round.
        """
        check_layer(layer, pyg.GINConv)
        return cls._converted(layer, in_channels, {})

    @classmethod
    def _converted(
        cls, layer: Any, in_channels: int | None, copied: dict[str, Tensor | None], **kwargs: Any
    ) -> Any:
        converted = cls(
            in_channels or _in_channels_of(layer.nn),
            layer.nn,
            layer.initial_eps,
            isinstance(layer.eps, nn.Parameter),
            aggr=layer.aggr_module,
            flow=layer.flow,
            **kwargs,
        )
        return take_over(converted, layer, {"eps": layer.eps.reshape(()), **copied})


class GINE(GIN):
    r"""x_v' = h((1 + eps) x_v + sum over u in N(v) of relu(x_u + W e_vu + c)), e_vu the edge's
    features.

    Args:
        in_channels: of every node; -1 for those of the first input.
        network: h, from (M, in_channels) to (M, out_channels).
        eps: the weight of a node's own features beside its neighbours'.
        train_eps: whether it is learned.
        edge_dim: features of an edge; None for in_channels of them, without W and c.
        **kwargs: as for :class:`GIN`.

    Shapes: **x** (..., N, in_channels), or a pair of them, **edge_index** (2, E), **edge_attr**
    (E, edge_dim), **output** (..., M, out_channels)

    Source: Hu et al., *Strategies for Pre-training Graph Neural Networks*, ICLR 2020.

    Example:
        >>> import torch
        >>> from mpnn_arch.rounds.gnn import GINE
        >>> layer = GINE(8, torch.nn.Linear(8, 4), edge_dim=3)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> layer(torch.zeros(2, 8), edge_index, torch.zeros(2, 3)).shape
        torch.Size([2, 4])
    """

    takes_features: ClassVar[bool] = True
    without: ClassVar[tuple[str, ...]] = NO_SIGMA

    def __init__(
        self,
        in_channels: int,
        network: nn.Module,
        eps: float = 0.0,
        train_eps: bool = False,
        edge_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, network, eps, train_eps, **kwargs)
        width = self.source_channels
        self.edge_dim = edge_dim
        if edge_dim is not None:
            edge_dim = whole_number("edge_dim", edge_dim)
        self.edge_map = None if edge_dim is None else linear(edge_dim, width, True)

    def forward(  # type: ignore[override]
        self,
        x: Any,
        edge_index: Any = None,
        edge_attr: OptTensor = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """One round along ``edge_index``."""
        self.fix_channels(x)
        graph = read_graph(self, x, edge_index, edge_attr, size)
        expected = self.source_channels if self.edge_dim is None else self.edge_dim
        value = graph.value
        if value is None or value.dim() != 2 or value.shape[1] != expected:
            shape = None if value is None else tuple(value.shape)
            raise InputError(
                f"this GINE takes edge_attr of shape (E, {expected}), not {shape}; give edge_dim "
                "where edges have another number of features than nodes"
            )
        return self.exchange(graph)

    def message(self, x_j: Tensor, edge_attr: Tensor) -> Tensor:  # type: ignore[override]
        """relu(x_u + W e_vu + c): (E, B, C), (E, edge_dim) -> (E, B, C)."""
        features = edge_attr if self.edge_map is None else self.edge_map(edge_attr)
        return (x_j + features.unsqueeze(1)).relu()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters, those of the network included."""
        super().reset_parameters(generator)
        if getattr(self, "edge_map", None) is not None:
            redraw(self.edge_map, generator)

    @classmethod
    def from_pyg(cls, layer: pyg.GINEConv, in_channels: int | None = None) -> "GINE":
        """The round with the network of PyG's layer, which both then share; see :class:`GIN`."""
        check_layer(layer, pyg.GINEConv)
        if layer.lin is None:
            return cls._converted(layer, in_channels, {})
        copied = {"edge_map.weight": layer.lin.weight, "edge_map.bias": layer.lin.bias}
        width = layer.lin.weight.shape[0]
        return cls._converted(layer, width, copied, edge_dim=layer.lin.weight.shape[1])


def _out_channels_of(network: Any, width: int | None) -> int | None:
    """Output features of the network, ``width`` if no part changes them; None where unknown."""
    if not isinstance(network, nn.Sequential):
        for name in ("out_features", "out_channels", "num_features"):
            found = getattr(network, name, None)
            if isinstance(found, int) and found > 0:
                return found
        plain = isinstance(network, nn.Module) and not [*network.parameters(), *network.children()]
        return width if plain else None
    for part in network:
        width = _out_channels_of(part, width)
    return width


def _in_channels_of(network: Any) -> int:
    """Input features of the network's first part, -1 where it has no such attribute."""
    while isinstance(network, nn.Sequential) and len(network):
        network = network[0]
    for name in ("in_features", "in_channels"):
        found = getattr(network, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return -1
