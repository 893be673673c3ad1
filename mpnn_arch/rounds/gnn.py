"""Graph neural networks: the same round, with shared messages and the graph as input.

The paper's Equation 6 is Equation 1 with f shared by all edges and the graph given with the data.
Each layer here is a :class:`~mpnn_arch.rounds.graph_round.GraphRound`; ``from_pyg`` copies the
weights of PyG's layer of the same name.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import OptTensor
from torch_geometric.utils import add_self_loops, remove_self_loops

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.registry import Registry
from mpnn_arch.rounds.graph_round import GraphRound, as_rows
from mpnn_arch.rounds.layers import RelationalLinear
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import SharedLinearMessage

gnn_layers: Registry[Callable[[int, int], GraphRound]] = Registry("GNN layer")

L = TypeVar("L", bound=nn.Module)


class GCN(GraphRound):
    r"""x_v' = sum over u in N(v) and v of W x_u / sqrt(d_u d_v), plus bias.

    Args:
        in_channels: of every node.
        out_channels: of every node.
        normalize: whether messages are normalised by the degrees, and self-loops added.
        **kwargs: as for :class:`GraphRound`.

    Shapes: **x** (..., N, in_channels), **edge_index** (2, E), **output** (..., N, out_channels)

    Source: Kipf, Welling, *Semi-Supervised Classification with Graph Convolutional Networks*,
    ICLR 2017.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, normalize: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(in_channels, out_channels, "shared_linear", "sum", **kwargs)
        self.normalize = normalize

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """One round along ``edge_index``."""
        if self.normalize and edge_index is not None:
            edge_index, edge_weight = gcn_norm(
                edge_index, edge_weight, num_nodes=x.shape[-2], dtype=x.dtype
            )
        return super().forward(x, edge_index, edge_weight)

    @classmethod
    def from_pyg(cls, layer: pyg.GCNConv) -> "GCN":
        """The round with the weights of PyG's layer."""
        _check_type(layer, pyg.GCNConv)
        _refuse(layer, improved=False, add_self_loops=layer.normalize)
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            normalize=layer.normalize,
            bias=layer.bias is not None,
        )
        copied = {"message_function.weight": layer.lin.weight, "bias": layer.bias}
        return _filled(converted, copied)


class _LinearOfNeighbours(GraphRound):
    """x_v' = W1 AGG(x_u) + b + W2 x_v: what SAGE and Graph have in common."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        aggr: Any,
        *,
        bias: bool = True,
        root: bool = True,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels, in_channels, "identity", aggr, bias=False, generator=generator
        )
        # The linear layers draw from the generator too, never from the global state.
        one = RelationalGraph(1, [[0], [0]])
        init = {"generator": generator, **kwargs}
        self.neighbours = RelationalLinear(one, in_channels, out_channels, bias, **init)
        self.root = (
            RelationalLinear(one, in_channels, out_channels, False, **init) if root else None
        )

    def update(  # type: ignore[override]
        self, inputs: Tensor, residual: OptTensor, x: Tensor
    ) -> Tensor:
        """(B * N, in_channels), (N, B, in_channels) -> (B * N, out_channels)."""
        out: Tensor = self.neighbours(inputs)
        return out if self.root is None else out + self.root(as_rows(x))

    def _weights_of(self, neighbours: Any, root: Any) -> dict[str, Tensor | None]:
        copied = {
            "neighbours.message_function.weight": neighbours.weight.flatten(),
            "neighbours.bias": neighbours.bias,
        }
        if root is not None:
            copied["root.message_function.weight"] = root.weight.flatten()
        return copied


class SAGE(_LinearOfNeighbours):
    r"""x_v' = W1 AGG(x_u) + b + W2 x_v, AGG the mean, or ``"max"`` and others.

    Args:
        in_channels: of every node.
        out_channels: of every node.
        aggr: see :class:`GraphRound`.
        bias: whether b is added.
        root: whether W2 x_v is added.

    Shapes: **x** (..., N, in_channels), **edge_index** (2, E), **output** (..., N, out_channels)

    Source: Hamilton, Ying, Leskovec, *Inductive Representation Learning on Large Graphs*,
    NeurIPS 2017.
    """

    def __init__(
        self, in_channels: int, out_channels: int, aggr: Any = "mean", **kwargs: Any
    ) -> None:
        super().__init__(in_channels, out_channels, aggr, **kwargs)

    @classmethod
    def from_pyg(cls, layer: pyg.SAGEConv) -> "SAGE":
        """The round with the weights of PyG's layer."""
        _check_type(layer, pyg.SAGEConv)
        _refuse(layer, normalize=False, project=False)
        root = layer.lin_r if layer.root_weight else None
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            layer.aggr_module,
            bias=layer.lin_l.bias is not None,
            root=root is not None,
        )
        return _filled(converted, converted._weights_of(layer.lin_l, root))


class Graph(_LinearOfNeighbours):
    r"""x_v' = W1 AGG(e_vu x_u) + b + W2 x_v, AGG the sum, e_vu an optional weight of the edge.

    Args:
        in_channels: of every node.
        out_channels: of every node.
        aggr: see :class:`GraphRound`.
        bias: whether b is added.

    Shapes: **x** (..., N, in_channels), **edge_index** (2, E), **edge_weight** (E,) or None,
    **output** (..., N, out_channels)

    Source: Morris et al., *Weisfeiler and Leman Go Neural*, AAAI 2019.
    """

    def __init__(
        self, in_channels: int, out_channels: int, aggr: Any = "sum", **kwargs: Any
    ) -> None:
        super().__init__(in_channels, out_channels, aggr, **kwargs)

    @classmethod
    def from_pyg(cls, layer: pyg.GraphConv) -> "Graph":
        """The round with the weights of PyG's layer."""
        _check_type(layer, pyg.GraphConv)
        bias = layer.lin_rel.bias is not None
        converted = cls(layer.in_channels, layer.out_channels, layer.aggr_module, bias=bias)
        return _filled(converted, converted._weights_of(layer.lin_rel, layer.lin_root))


class GIN(GraphRound):
    r"""x_v' = h((1 + eps) x_v + sum over u in N(v) of x_u), h a small network.

    Args:
        in_channels: of every node.
        network: h, from (M, in_channels) to (M, out_channels).
        eps: the weight of a node's own features beside its neighbours'.
        train_eps: whether it is learned.

    Shapes: **x** (..., N, in_channels), **edge_index** (2, E), **output** (..., N, out_channels)

    Source: Xu et al., *How Powerful are Graph Neural Networks?*, ICLR 2019.
    """

    def __init__(
        self, in_channels: int, network: nn.Module, eps: float = 0.0, train_eps: bool = False
    ) -> None:
        super().__init__(in_channels, in_channels, "identity", "sum", bias=False)
        self.network = network
        self.eps = nn.Parameter(torch.tensor(float(eps)), requires_grad=train_eps)

    def update(  # type: ignore[override]
        self, inputs: Tensor, residual: OptTensor, x: Tensor
    ) -> Tensor:
        """(B * N, in_channels), (N, B, in_channels) -> (B * N, out_channels)."""
        out: Tensor = self.network(inputs + (1 + self.eps) * as_rows(x))
        return out

    @classmethod
    def from_pyg(cls, layer: pyg.GINConv, in_channels: int) -> "GIN":
        """The round with the network of PyG's layer, which both then share.

        Args:
            layer: PyG's, which does not store its channels.
            in_channels: of every node.
        """
        _check_type(layer, pyg.GINConv)
        train_eps = isinstance(layer.eps, nn.Parameter)
        converted = cls(in_channels, layer.nn, train_eps=train_eps)
        converted.eps.data = layer.eps.detach().reshape(()).clone()  # with dtype and device
        return converted


class GAT(GraphRound):
    r"""x_v' = sum over u in N(v) and v of alpha_vu W x_u, plus bias; see ``shared_attention``.

    Args:
        in_channels: of every node.
        out_channels: of every node and head.
        heads: independent alphas, each with its part of W.
        concat: whether the heads' results are concatenated, or averaged.
        negative_slope: of the leaky relu in the logits.
        dropout: of alpha, in training.
        self_loops: whether every node also receives its own message.
        **kwargs: as for :class:`GraphRound`.

    Shapes: **x** (..., N, in_channels), **edge_index** (2, E), **output** (..., N, heads *
    out_channels), or (..., N, out_channels) without ``concat``

    Source: Velickovic et al., *Graph Attention Networks*, ICLR 2018.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        self_loops: bool = True,
        **kwargs: Any,
    ) -> None:
        attention = {
            "heads": heads,
            "concat": concat,
            "negative_slope": negative_slope,
            "dropout": dropout,
        }
        width = out_channels * heads if concat else out_channels
        super().__init__(in_channels, width, "shared_attention", message_kwargs=attention, **kwargs)
        self.self_loops = self_loops

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """One round along ``edge_index``."""
        if self.self_loops and edge_index is not None:
            edge_index, _ = remove_self_loops(edge_index)
            edge_index, _ = add_self_loops(edge_index, num_nodes=x.shape[-2])
        return super().forward(x, edge_index, edge_weight)

    @classmethod
    def from_pyg(cls, layer: pyg.GATConv) -> "GAT":
        """The round with the weights of PyG's layer."""
        _check_type(layer, pyg.GATConv)
        _refuse(layer, edge_dim=None, residual=False)
        converted = cls(
            layer.in_channels,
            layer.out_channels,
            heads=layer.heads,
            concat=layer.concat,
            negative_slope=layer.negative_slope,
            dropout=layer.dropout,
            self_loops=layer.add_self_loops,
            bias=layer.bias is not None,
        )
        copied = {
            "message_function.weight": layer.lin.weight,
            "message_function.source_logit": layer.att_src[0],
            "message_function.target_logit": layer.att_dst[0],
            "bias": layer.bias,
        }
        return _filled(converted, copied)


# -- between rounds and GNN layers ------------------------------------------------------------


def tie(layer: MessageRound) -> GraphRound:
    """The GNN layer equal to a round of shared messages, with a copy of its weights.

    On the layer's relational graph, with the nodes' shares as features, it computes the round.

    Raises:
        InputError: messages other than ``shared_linear``, uneven shares, or a bias that differs
            from node to node.
    """
    graph, function = layer.graph, layer.message_function
    if graph is None or not isinstance(function, SharedLinearMessage):
        raise InputError(
            "only a round on a graph with message='shared_linear' has one weight for all edges; "
            f"this one has {type(function).__name__}"
        )
    plan = layer.plan
    if len({*layer.in_partition.sizes}) > 1 or len({*layer.out_partition.sizes}) > 1:
        raise InputError(
            f"the {plan.num_nodes} nodes of this round have shares of different sizes, the nodes "
            "of a GNN equal ones; use a number of channels that is a multiple of the nodes"
        )
    bias = None if layer.bias is None else layer.bias.detach().view(plan.num_nodes, -1)
    if bias is not None and (bias != bias[0]).any():
        raise InputError("the bias differs between the nodes; create the round with bias=False")
    gnn = GraphRound(
        plan.largest_in,
        plan.largest_out,
        "shared_linear",
        layer.aggr_module,
        bias=bias is not None,
    )
    copied = {
        "message_function.weight": function.weight,
        "bias": None if bias is None else bias[0],
    }
    return _filled(gnn, copied)


def untie(layer: GraphRound, graph: RelationalGraph) -> RelationalLinear:
    """The relational round equal to a GNN layer on ``graph``, with a copy of its weight per edge.

    Its input and output are the nodes' features, concatenated. In training the copies diverge.

    Raises:
        InputError: messages other than ``shared_linear``, or a layer that has a fixed graph.
    """
    function = layer.message_function
    if layer.graph is not None or not isinstance(function, SharedLinearMessage):
        raise InputError(
            "only a GNN layer with message='shared_linear' and the graph as input can be untied; "
            f"this one has {type(function).__name__} and graph={layer.graph!r}"
        )
    n = graph.num_nodes
    widths = (n * layer.in_channels, n * layer.out_channels)
    factory: dict[str, Any] = {"device": function.weight.device, "dtype": function.weight.dtype}
    tied = MessageRound(graph, *widths, "shared_linear", bias=False, **factory)
    tied_function: Any = tied.message_function
    with torch.no_grad():
        tied_function.weight.copy_(function.weight)
        bias = None if layer.bias is None else layer.bias.repeat(n)
        untied = RelationalLinear(graph, *widths, layer.bias is not None, layer.aggr_module)
        copied = {"message_function.weight": tied_function.flat_weight(), "bias": bias}
        return _filled(untied, copied)


def _check_type(layer: nn.Module, kind: type[nn.Module]) -> None:
    if type(layer) is not kind:
        raise InputError(
            f"from_pyg converts a {kind.__name__}, this is a {type(layer).__name__}; use the "
            "round of that name"
        )
    if isinstance(getattr(layer, "in_channels", 0), tuple):
        raise InputError(
            f"this {kind.__name__} is bipartite; only layers with one number of in_channels are "
            "converted"
        )


def _refuse(layer: Any, **expected: Any) -> None:
    for name, value in expected.items():
        if getattr(layer, name, value) not in (value, None):
            raise InputError(
                f"{type(layer).__name__} with {name}={getattr(layer, name)!r} has no round; only "
                f"{name}={value!r} is converted"
            )


def _filled(layer: L, copied: dict[str, Tensor | None]) -> L:
    """``layer`` with these parameters copied in, on their device and of their dtype."""
    given = {name: value.detach() for name, value in copied.items() if value is not None}
    example = next(iter(given.values()))
    layer.to(device=example.device, dtype=example.dtype)
    parameters = dict(layer.named_parameters())
    with torch.no_grad():
        for name, value in given.items():
            parameters[name].copy_(value)
    return layer


def _gin(in_channels: int, out_channels: int) -> GraphRound:
    network = nn.Sequential(
        nn.Linear(in_channels, out_channels), nn.ReLU(), nn.Linear(out_channels, out_channels)
    )
    return GIN(in_channels, network)


gnn_layers.register("gcn")(GCN)
gnn_layers.register("sage")(SAGE)
gnn_layers.register("sage_max")(lambda i, o: SAGE(i, o, "max"))
gnn_layers.register("gin")(_gin)
gnn_layers.register("graph")(Graph)
gnn_layers.register("gat")(GAT)
