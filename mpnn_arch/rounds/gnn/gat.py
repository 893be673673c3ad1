"""GAT: messages weighted by attention over the senders of each node."""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.typing import OptTensor, SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor, softmax, to_torch_csr_tensor

from mpnn_arch.checks import check_flag, check_range, whole_number
from mpnn_arch.errors import InputError
from mpnn_arch.rounds.gnn.from_pyg import check_layer, take_over
from mpnn_arch.rounds.gnn.linear import linear
from mpnn_arch.rounds.gnn.neighbours import NO_SIGMA
from mpnn_arch.rounds.gnn.self_loops import replace_self_loops
from mpnn_arch.rounds.graph_input import GraphInput, read_graph
from mpnn_arch.rounds.graph_round import GraphRound
from mpnn_arch.rounds.initial_scale import redraw, reset_round
from mpnn_arch.rounds.messages.initial import fill_uniform


class GAT(GraphRound):
    r"""x_v' = sum over u in N(v) and v of alpha_vu W x_u, plus bias, with

    .. math::
        \alpha_{vu} = \mathrm{softmax}_{u \in N(v)}(
            \mathrm{LeakyReLU}(a \cdot W x_u + b \cdot W x_v + c \cdot W_e e_{vu})).

    Args:
        in_channels: of every node; a pair, of senders and receivers, for which W then differs; -1
            for those of the first input.
        out_channels: of every node and head.
        heads: independent alphas, each with its part of W.
        concat: whether the heads' results are concatenated, or averaged.
        negative_slope: of the leaky relu in the logits.
        dropout: of alpha, in training.
        add_self_loops: whether every node also receives its own message.
        edge_dim: features e_vu of an edge; None for none.
        fill_value: features of an added self-loop: a number, a tensor, or ``"mean"`` and others
            over those of the node's incoming edges.
        bias: whether one is added per output channel.
        residual: whether a linear map of x_v is added.
        aggr: in place of the sum, see :class:`GraphRound`.
        aggr_kwargs: arguments of the aggregation.
        flow: see :class:`GraphRound`.
        generator: draws the initial parameters.
        device: of the parameters.
        dtype: of the parameters.

    Shapes: **x** (..., N, in_channels), or a pair of them, **edge_index** (2, E), **edge_attr**
    (E, edge_dim), or (E,) for 1, **output** (..., M, heads * out_channels), or (..., M,
    out_channels) without ``concat``

    Source: Velickovic et al., *Graph Attention Networks*, ICLR 2018.

    Example:
        >>> import torch
        >>> from mpnn_arch.rounds.gnn import GAT
        >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> GAT(8, 4, heads=2)(torch.zeros(3, 8), edge_index).shape
        torch.Size([3, 8])
    """

    takes_weights: ClassVar[bool] = False
    without: ClassVar[tuple[str, ...]] = NO_SIGMA

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        *,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | str | Tensor = "mean",
        bias: bool = True,
        residual: bool = False,
        aggr: Any = "sum",
        aggr_kwargs: dict[str, Any] | None = None,
        flow: str = "source_to_target",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        heads = whole_number("heads", heads)
        out_channels = whole_number("out_channels", out_channels)
        edge_dim = None if edge_dim is None else whole_number("edge_dim", edge_dim)
        if not isinstance(fill_value, (str, Tensor)):
            fill_value = check_range("fill_value", fill_value, -math.inf, math.inf)
        super().__init__(
            in_channels,
            heads * out_channels,
            "shared_attention",
            aggr,
            bias=False,
            message_kwargs={
                "heads": heads,
                "negative_slope": negative_slope,
                "dropout": dropout,
            },
            aggr_kwargs=aggr_kwargs,
            flow=flow,
            generator=generator,
            **factory,
        )
        self.out_channels, self.heads = out_channels, heads
        self.concat = check_flag("concat", concat)
        self.add_self_loops, self.edge_dim, self.fill_value = add_self_loops, edge_dim, fill_value
        wide, width = heads * out_channels, heads * out_channels if concat else out_channels
        pair, target = isinstance(in_channels, (tuple, list)), self.target_channels
        self.target_map = linear(target, wide, False, generator, **factory) if pair else None
        self.edge_map = None
        self.edge_logit = None
        if edge_dim is not None:
            self.edge_map = linear(edge_dim, wide, False, generator, **factory)
            self.edge_logit = nn.Parameter(torch.empty(heads, out_channels, **factory))
            fill_uniform(self.edge_logit, out_channels**-0.5, generator)
        self.root = linear(target, width, False, generator, **factory) if residual else None
        self._alpha: OptTensor = None
        self.bias = nn.Parameter(torch.zeros(width, **factory)) if bias else None

    def forward(  # type: ignore[override]
        self,
        x: Any,
        edge_index: Any = None,
        edge_attr: OptTensor = None,
        size: tuple[int, int] | None = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        """One round along ``edge_index``; with ``return_attention_weights`` also (edges, alpha),
        the edges with the self-loops that the layer adds, alpha (E, heads) or (E, B, heads)."""
        self.fix_channels(x)
        graph = read_graph(self, x, edge_index, edge_attr, size)
        if graph.value is not None:
            value = graph.value.unsqueeze(1) if graph.value.dim() == 1 else graph.value
            if value.shape[1:] != (self.edge_dim,):
                raise InputError(
                    f"edge_attr is of shape {tuple(value.shape)}, this GAT has edge_dim="
                    f"{self.edge_dim}: create it with the number of features of an edge"
                )
            graph = graph._replace(value=value)
        if self.add_self_loops:
            graph = replace_self_loops(graph, self.fill_value)
        weight: Any = self.message_function.weight
        senders = F.linear(graph.source, weight)  # W x_u: (N, B, H * D)
        if graph.target is None:
            receivers = None
        else:
            receivers = F.linear(
                graph.target, weight if self.target_map is None else self.target_map.weight
            )
        alpha = self.attention(graph, senders, receivers)  # (E, B, H)
        # Where PyG's AttentionExplainer reads it.
        if len(self.__dict__["_message_forward_hooks"]) > 0:
            self._alpha = alpha if graph.leading else alpha.squeeze(1)
        try:
            out = self.exchange(graph._replace(source=senders, value=alpha))
        finally:
            self._alpha = None
        if not return_attention_weights:
            return out
        return out, self._attention_of_edges(graph, alpha, edge_index)

    def attention(self, graph: GraphInput, senders: Tensor, receivers: OptTensor) -> Tensor:
        """alpha_vu, for every edge: (E, B, H)."""
        function: Any = self.message_function
        sender = graph.edge_index[0 if self.flow == "source_to_target" else 1]
        receiver = self.receivers(graph)
        logits = (self.by_head(senders) * function.source_logit).sum(-1)[sender]
        if receivers is not None:
            of_nodes = (self.by_head(receivers) * function.target_logit).sum(-1)
            logits = logits + F.pad(of_nodes, [0, 0, 0, 0, 0, 1])[receiver]
        if graph.value is not None and self.edge_map is not None and self.edge_logit is not None:
            of_edges = self.by_head(self.edge_map(graph.value)) * self.edge_logit
            logits = logits + of_edges.sum(-1).unsqueeze(1)
        logits = F.leaky_relu(logits, function.negative_slope)
        alpha = softmax(logits, receiver, num_nodes=graph.size[1] + 1)
        return F.dropout(alpha, function.dropout, self.training)

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:  # type: ignore[override]
        """alpha_vu W x_u: (E, B, H * D), (E, B, H) -> (E, B, H * D)."""
        return (self.by_head(x_j) * edge_weight.unsqueeze(-1)).flatten(-2)

    def update(self, inputs: Tensor, root: OptTensor) -> Tensor:  # type: ignore[override]
        """(B * M, H * D), (B * M, in_channels) -> (B * M, H * D) or (B * M, D)."""
        out = inputs if self.concat else self.by_head(inputs).mean(-2)
        if self.root is not None and root is not None:
            out = out + self.root(root)
        return out if self.bias is None else out + self.bias

    @property
    def dropout(self) -> float:
        """Of alpha, in training; settable, as in PyG."""
        return self.message_function.dropout  # type: ignore[return-value]

    @dropout.setter
    def dropout(self, share: float) -> None:
        self._set("dropout", check_range("dropout", share, 0, 1))

    @property
    def negative_slope(self) -> float:
        """Of the leaky relu in the logits; settable, as in PyG."""
        return self.message_function.negative_slope  # type: ignore[return-value]

    @negative_slope.setter
    def negative_slope(self, slope: float) -> None:
        self._set("negative_slope", check_range("negative_slope", slope, -math.inf, math.inf))

    def _set(self, name: str, value: float) -> None:
        setattr(self.message_function, name, value)
        if self._awaiting is not None:  # the message function is made anew at the first input
            self._awaiting[1][name] = value

    def by_head(self, features: Tensor) -> Tensor:
        """(..., H * D) -> (..., H, D)."""
        return features.unflatten(-1, (self.heads, -1))

    def _attention_of_edges(self, graph: GraphInput, alpha: Tensor, edges: Any) -> Any:
        """PyG's pair of edges and alpha, the edges in the caller's form."""
        if graph.dropped is not None:
            raise InputError("return_attention_weights is not available in a compiled call")
        if isinstance(edges, SparseTensor):
            raise InputError(
                "return_attention_weights gives (edges, alpha), which torch_sparse's SparseTensor "
                "is not: give an edge_index, or a torch.sparse tensor"
            )
        alpha = alpha if graph.leading else alpha.squeeze(1)
        if not is_torch_sparse_tensor(edges):
            return graph.edge_index, alpha
        index = graph.edge_index.flip(0)
        order = (index[0] * graph.size[0] + index[1]).argsort()
        alpha = alpha[order]
        adjacency = to_torch_csr_tensor(
            index[:, order], alpha, (graph.size[1], graph.size[0]), is_coalesced=True
        )
        return (adjacency if edges.layout == torch.sparse_csr else adjacency.to_sparse()), alpha

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters."""
        reset_round(self, generator, by_degree=False, with_bias=False)
        if not hasattr(self, "root"):
            return  # the round resets itself before it has the rest
        redraw(self.target_map, generator)
        redraw(self.edge_map, generator)
        if self.edge_logit is not None:
            fill_uniform(self.edge_logit, self.out_channels**-0.5, generator)
        redraw(self.root, generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def from_pyg(cls, layer: pyg.GATConv) -> "GAT":
        """The round with the weights of PyG's layer.

        Raises:
            InputError: a layer, or an argument of it, that has no round.
        """
        check_layer(layer, pyg.GATConv, node_dim=0)
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            heads=layer.heads,
            concat=layer.concat,
            negative_slope=layer.negative_slope,
            dropout=layer.dropout,
            add_self_loops=layer.add_self_loops,
            edge_dim=layer.edge_dim,
            fill_value=layer.fill_value,
            bias=layer.bias is not None,
            residual=layer.residual,
            aggr=layer.aggr_module,
            flow=layer.flow,
        )
        pair = layer.lin is None
        copied = {
            "message_function.weight": layer.lin_src.weight if pair else layer.lin.weight,
            "message_function.source_logit": layer.att_src[0],
            "message_function.target_logit": layer.att_dst[0],
            "target_map.weight": layer.lin_dst.weight if pair else None,
            "edge_map.weight": layer.lin_edge.weight if layer.lin_edge is not None else None,
            "edge_logit": layer.att_edge[0] if layer.att_edge is not None else None,
            "root.weight": layer.res.weight if layer.res is not None else None,
            "bias": layer.bias,
        }
        return take_over(converted, layer, copied)
