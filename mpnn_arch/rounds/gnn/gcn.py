"""GCN: messages normalised by the degrees of both ends."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import OptTensor
from torch_geometric.utils import scatter

from mpnn_arch.errors import InputError
from mpnn_arch.rounds.gnn.from_pyg import check_layer, take_over
from mpnn_arch.rounds.gnn.self_loops import replace_self_loops
from mpnn_arch.rounds.graph_input import GraphInput, read_graph, weight_of_edges
from mpnn_arch.rounds.graph_round import GraphRound


class GCN(GraphRound):
    r"""x_v' = sum over u in N(v) and v of e_vu W x_u / sqrt(d_u d_v), plus bias, with
    d_v = sum over u of e_vu, and 1 for an edge without a weight e_vu.

    Args:
        in_channels: of every node; -1 for those of the first input.
        out_channels: of every node.
        improved: whether added self-loops weigh 2 instead of 1, with or without edge weights.
        cached: whether the normalised edges are kept and used again while the graph is the same.
        add_self_loops: whether every node sends itself a message; None for ``normalize``.
        normalize: whether messages are normalised by the degrees.
        aggr: see :class:`GraphRound`.
        **kwargs: as for :class:`GraphRound`.

    Shapes: **x** (..., N, in_channels), **edge_index** (2, E), **edge_weight** (E,) or None,
    **output** (..., N, out_channels)

    Source: Kipf, Welling, *Semi-Supervised Classification with Graph Convolutional Networks*,
    ICLR 2017.

    Example:
        >>> import torch
        >>> from torch_geometric.nn import GCNConv
        >>> from mpnn_arch.rounds.gnn import GCN
        >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> theirs = GCNConv(8, 4)
        >>> torch.testing.assert_close(GCN.from_pyg(theirs)(x, edge_index), theirs(x, edge_index))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        improved: bool = False,
        cached: bool = False,
        add_self_loops: bool | None = None,
        normalize: bool = True,
        aggr: Any = "sum",
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, "shared_linear", aggr, **kwargs)
        self.improved, self.cached, self.normalize = improved, cached, normalize
        self.add_self_loops = normalize if add_self_loops is None else add_self_loops
        if self.add_self_loops and not normalize:
            raise InputError(
                "add_self_loops=True with normalize=False: a GCN does not support adding "
                "self-loops without normalisation; add them to the edge_index"
            )
        self._cache: tuple[Any, GraphInput, GraphInput] | None = None

    def forward(  # type: ignore[override]
        self, x: Any, edge_index: Any = None, edge_weight: OptTensor = None
    ) -> Tensor:
        """One round along ``edge_index``."""
        if isinstance(x, (tuple, list)):
            raise InputError(
                "a GCN normalises by the degrees of one set of nodes and takes no pair of features "
                "(it does not support bipartite message passing): use SAGE or Graph"
            )
        self.fix_channels(x)
        graph = read_graph(self, x, edge_index, edge_weight)
        graph = graph._replace(value=weight_of_edges(self, graph.value))
        return self.exchange(self.normalised(graph) if self.normalize else graph)

    def normalised(self, graph: GraphInput) -> GraphInput:
        """e_vu / sqrt(d_u d_v) on the edges and the self-loops that the layer adds."""
        settings = self.improved, self.add_self_loops, self.flow
        if self._cache is not None and self._cache[0] == settings:
            _, given, kept = self._cache
            if _same_edges(given, graph):
                return graph._replace(
                    edge_index=kept.edge_index, value=kept.value, origin=kept.origin
                )
        weight: Any = graph.value
        if weight is None:
            weight = graph.source.new_ones(graph.edge_index.shape[1])
        normal = graph._replace(value=weight)
        if self.add_self_loops:
            normal = replace_self_loops(normal, 2.0 if self.improved else 1.0, keep_weights=True)
        weight, receiver = normal.value, self.receivers(normal)
        degree = scatter(weight, receiver, 0, graph.size[1] + 1, "sum")[:-1]
        alone = degree == 0
        scale = degree.masked_fill(alone, 1).pow(-0.5).masked_fill(alone, 0)
        source, target = normal.edge_index
        weight = scale[source] * weight * scale[target]
        normal = normal._replace(value=weight)
        if self.cached and not torch.compiler.is_compiling() and not weight.requires_grad:
            self._cache = settings, _edges_of(graph, clone=True), _edges_of(normal)
        return normal

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters, and forget the cached edges."""
        super().reset_parameters(generator)
        self._cache = None

    @classmethod
    def from_pyg(cls, layer: pyg.GCNConv) -> "GCN":
        """The round with the weights of PyG's layer.

        Raises:
            InputError: a layer, or an argument of it, that has no round.
        """
        check_layer(layer, pyg.GCNConv)
        if layer.improved and layer.add_self_loops and not _improves_without_weights():
            warnings.warn(
                "this version of PyG ignores improved=True in calls without edge_weight, and gives "
                "added self-loops the weight 1; the round gives them 2, as it does with weights. "
                "For PyG's numbers in such calls, set improved=False on the round",
                stacklevel=2,
            )
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            improved=layer.improved,
            cached=layer.cached,
            add_self_loops=layer.add_self_loops,
            normalize=layer.normalize,
            bias=layer.bias is not None,
            aggr=layer.aggr_module,
            flow=layer.flow,
        )
        copied = {"message_function.weight": layer.lin.weight, "bias": layer.bias}
        return take_over(converted, layer, copied)


def _improves_without_weights() -> bool:
    """Whether PyG's added self-loops weigh 2 where the edges have no weights."""
    edge, improved = torch.tensor([[0], [1]]), True
    return not torch.equal(gcn_norm(edge, None, 2, improved)[1], gcn_norm(edge, None, 2)[1])


def _edges_of(graph: GraphInput, clone: bool = False) -> GraphInput:
    """The graph without the features of its nodes."""
    nothing = graph.source.new_empty(0)
    edge_index = graph.edge_index.clone() if clone else graph.edge_index
    value = graph.value.clone() if clone and graph.value is not None else graph.value
    return graph._replace(source=nothing, target=None, edge_index=edge_index, value=value)


def _same_edges(one: GraphInput, other: GraphInput) -> bool:
    if torch.compiler.is_compiling() or one.size != other.size:
        return False
    alike = [(g.edge_index.shape, g.source.dtype, g.source.device) for g in (one, other)]
    if alike[0] != alike[1]:
        return False
    same = torch.equal(one.edge_index, other.edge_index)
    if one.value is None or other.value is None:
        return same and one.value is other.value
    return same and not other.value.requires_grad and torch.equal(one.value, other.value)
