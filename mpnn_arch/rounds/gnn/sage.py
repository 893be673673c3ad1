"""SAGE: a linear map of the neighbours' aggregate, plus one of the node itself."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.typing import OptTensor

from mpnn_arch.checks import check_flag
from mpnn_arch.errors import InputError
from mpnn_arch.rounds.gnn.from_pyg import check_layer, take_over
from mpnn_arch.rounds.gnn.neighbours import NO_SIGMA, LinearOfNeighbours
from mpnn_arch.rounds.graph_input import read_graph


class SAGE(LinearOfNeighbours):
    r"""x_v' = W1 AGG(x_u) + b + W2 x_v, AGG the mean, or ``"max"`` and others.

    Args:
        in_channels: of every node; a pair, of senders and receivers, where they differ; -1 for
            those of the first input.
        out_channels: of every node.
        aggr: see :class:`GraphRound`; an aggregation may widen its messages, W1 reads all of it.
        normalize: whether x_v' is divided by its Euclidean norm.
        root_weight: whether W2 x_v is added.
        project: whether messages are relu(W x_u + c) instead of x_u.
        bias: whether b is added.
        **kwargs: as for :class:`LinearOfNeighbours`.

    Shapes: **x** (..., N, in_channels), or a pair of them, **edge_index** (2, E), **output**
    (..., M, out_channels)

    Source: Hamilton, Ying, Leskovec, *Inductive Representation Learning on Large Graphs*,
    NeurIPS 2017.

    Example:
        >>> import torch
        >>> from mpnn_arch.rounds.gnn import SAGE
        >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> SAGE(8, 4, aggr="max")(torch.zeros(3, 8), edge_index).shape
        torch.Size([3, 4])
    """

    takes_weights: ClassVar[bool] = False
    without: ClassVar[tuple[str, ...]] = NO_SIGMA

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        aggr: Any = "mean",
        *,
        normalize: bool = False,
        root_weight: bool = True,
        project: bool = False,
        bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels, out_channels, aggr, bias=bias, root=root_weight, project=project, **kwargs
        )
        self.normalize = normalize
        self.root_weight = root_weight

    @property
    def root_weight(self) -> bool:
        """Whether W2 x_v is added; W2 stays where this is set to False.

        Raises:
            InputError: if it is set to True on a layer that was built without W2.
        """
        return self._adds_root

    @root_weight.setter
    def root_weight(self, value: bool) -> None:
        if check_flag("root_weight", value) and self.root is None:
            raise InputError(
                "root_weight=True on a SAGE that was built without the weight of the node itself: "
                "build one with root_weight=True and load the weights of this one with strict=False"
            )
        self._adds_root = value

    def forward(  # type: ignore[override]
        self, x: Any, edge_index: Any = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """One round along ``edge_index``."""
        self.fix_channels(x)
        graph = read_graph(self, x, edge_index, None, size)
        if self.project is not None:
            graph = graph._replace(source=self.project(graph.source).relu())
        return self.exchange(graph)

    def update(self, inputs: Tensor, root: OptTensor) -> Tensor:  # type: ignore[override]
        """(B * M, k * in_channels), (B * M, in_channels) -> (B * M, out_channels)."""
        out = super().update(inputs, root if self.root_weight else None)
        return F.normalize(out, dim=-1) if self.normalize else out

    @classmethod
    def from_pyg(cls, layer: pyg.SAGEConv) -> "SAGE":
        """The round with the weights of PyG's layer.

        Raises:
            InputError: a layer, or an argument of it, that has no round.
        """
        check_layer(layer, pyg.SAGEConv)
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            layer.aggr_module,
            normalize=layer.normalize,
            root_weight=layer.root_weight,
            project=layer.project,
            bias=layer.lin_l.bias is not None,
            flow=layer.flow,
        )
        copied: dict[str, torch.Tensor | None] = {
            "neighbours.weight": layer.lin_l.weight,
            "neighbours.bias": layer.lin_l.bias,
        }
        if layer.root_weight:
            copied["root.weight"] = layer.lin_r.weight
        if layer.project:
            copied |= {"project.weight": layer.lin.weight, "project.bias": layer.lin.bias}
        return take_over(converted, layer, copied)
