"""The round whose graph comes with the input: a graph neural network's layer."""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
import math
from typing import Any, ClassVar, Optional

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.nn.aggr import QuantileAggregation
from torch_geometric.typing import OptTensor

from mpnn_arch.checks import check_choice, kind_of
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.rounds.aggregations import check_degrees_known, has_part, is_channelwise
from mpnn_arch.rounds.graph_input import GraphInput, as_rows, read_graph, weight_of_edges
from mpnn_arch.rounds.initial_scale import reset_round
from mpnn_arch.rounds.lazy_channels import LazyChannels, channel_pair
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import MessageFunction
from mpnn_arch.rounds.steps import check_messages

# A GraphRound has the message and update of a round on this graph: its one node has all channels,
# as every node of the input has.
_ONE_NODE = RelationalGraph(1, [[0], [0]])


class GraphRound(LazyChannels, MessageRound):
    r"""A round along the edges of its input, with one message function for all edges

    .. math::
        x_v' = \sigma(\textstyle\sum_{u \in N(v)} f(x_u)).

    This is the paper's Equation 6: a layer of a graph neural network is the round whose f is
    shared. Every node has all channels, not a share of them. Messages, and what hooks and edge
    masks see of them, are in the order of the caller's edges.

    Args:
        in_channels: of every node; a pair, of senders and receivers, where they differ; -1 for
            those of the first input.
        out_channels: of every node.
        message: a message function whose parameters all edges share, such as ``"shared_linear"``,
            ``"shared_attention"`` or ``"identity"``.
        flow: ``"source_to_target"``, or ``"target_to_source"`` to send messages from
            ``edge_index[1]`` to ``edge_index[0]``.
        **kwargs: as for :class:`MessageRound`, except the graph.

    Shapes:
        - **x:** (..., N, C_in), or a pair (..., N, C_in), (..., M, C_in'); the second may be None
        - **edge_index:** (2, E), in any order, an ``EdgeIndex``, or the transposed adjacency as a
          sparse tensor
        - **edge_weight:** (E,) or None
        - **size:** (N, M), where the second of the pair is None
        - **output:** (..., M, C_out), M = N unless x is a pair

    Raises:
        InputError: as for :class:`MessageRound`, a message with parameters on every edge, or edges
            that do not fit the nodes.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.2.

    Example:
        >>> import torch
        >>> from mpnn_arch import GraphRound
        >>> layer = GraphRound(8, 16, "shared_linear", bias=False)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])  # a cycle: 0 -> 1 -> 2 -> 0
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> weight = layer.message_function.weight
        >>> torch.testing.assert_close(layer(x, edge_index), (x @ weight.T)[[2, 0, 1]])
    """

    source_channels: int
    target_channels: int
    propagate: Any  # PyG replaces it on every class
    takes_weights: ClassVar[bool] = True
    takes_features: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        message: str | type[MessageFunction] = "shared_linear",
        *args: Any,
        flow: str = "source_to_target",
        **kwargs: Any,
    ) -> None:
        source, target = channel_pair(in_channels)
        self.check_lazy(in_channels)
        super().__init__(_ONE_NODE, source, out_channels, message, *args, **kwargs)
        self.in_channels = in_channels  # type: ignore[assignment]
        self.source_channels, self.target_channels = source, target
        check_choice("flow", flow, ("source_to_target", "target_to_source"))
        self.flow = flow
        check_degrees_known(self.aggr, kwargs.get("aggr_kwargs"))
        if not self.message_function.shared:
            raise InputError(
                f"{type(self.message_function).__name__} has parameters on every edge, so the "
                "round needs its graph in the constructor: use RelationalLinear or FusedRound, or "
                "a shared message such as 'shared_linear' or 'shared_attention'"
            )

    def _register_graph(self, graph: RelationalGraph) -> None:
        self.graph: RelationalGraph | None = None

    def forward(  # type: ignore[override]
        self,
        x: Any,
        edge_index: Any = None,
        edge_weight: OptTensor = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """One round along ``edge_index``."""
        self.fix_channels(x)
        return self.exchange(read_graph(self, x, edge_index, edge_weight, size))

    def exchange(self, graph: GraphInput) -> Tensor:
        """Messages, aggregation and update: (..., M, C_out)."""
        # With the flow reversed, PyG does not always send the same one of a pair.
        pair = (graph.source, graph.target if self.flow == "source_to_target" else graph.source)
        root = None if graph.target is None else as_rows(graph.target)
        residual = root if self.residual else None
        # Weights and features of the edges have one name each in PyG; a `message` declares its own.
        out = self.propagate(
            graph.edge_index,
            size=graph.size,
            x=pair,
            residual=residual,
            root=root,
            edge_weight=graph.value,
            edge_attr=graph.value,
            dropped=graph.dropped,
            origin=graph.origin,
            batch=graph.source.shape[1],
        )
        rows = math.prod(graph.leading) * graph.size[1]
        if not isinstance(out, Tensor) or out.dim() != 2 or out.shape[0] != rows:
            raise InputError(
                f"{type(self).__name__} updated its nodes to {kind_of(out)}; expected a tensor "
                f"({rows}, C), a row per node: check its update, or the network of a GIN"
            )
        return out.view(*graph.leading, graph.size[1], out.shape[-1])

    def receivers(self, graph: GraphInput) -> Tensor:
        """(E,) the receiver of each message; M for those that reach no node."""
        index = graph.edge_index[1 if self.flow == "source_to_target" else 0]
        return index if graph.dropped is None else index.masked_fill(graph.dropped, graph.size[1])

    def message(  # type: ignore[override]
        self, x_j: Tensor, x_i: OptTensor, index: Tensor, edge_weight: OptTensor = None
    ) -> Tensor:
        """f(x_u), times the edge's weight: (E, B, C_in) -> (E, B, C_out)."""
        if x_i is None and "x_i" in self.message_function.arguments:
            raise InputError(
                f"{type(self.message_function).__name__} reads the receivers, which have no "
                "features: give both of the pair"
            )
        messages = self.message_function(x_j, x_i, index)
        weight = weight_of_edges(self, edge_weight)
        return messages if weight is None else messages * weight.view(-1, 1, 1)

    def explain_message(self, inputs: Tensor, origin: OptTensor) -> Tensor:
        """Messages times the edge mask; added self-loops, which have no entry, count in full."""
        mask: Any = self._edge_mask
        mask = mask.sigmoid() if self._apply_sigmoid else mask
        if origin is not None:
            mask = torch.cat([mask, mask.new_ones(1)])[origin]
        return inputs * mask.view(-1, *[1] * (inputs.dim() - 1))

    def aggregate(  # type: ignore[override]
        self,
        inputs: Tensor,
        index: Tensor,
        dim_size: int,
        dropped: OptTensor = None,
        batch: Optional[int] = None,  # noqa: UP045
    ) -> Tensor:
        """AGG at every node: (E, B, C_out) -> (B * M, C_out)."""
        check_messages(self, inputs, (index.shape[0], "B" if batch is None else batch, "C"))
        if dropped is None:
            return as_rows(self.aggregate_shares(inputs, index, dim_size))
        index = index.masked_fill(dropped, dim_size)
        return as_rows(self.aggregate_shares(inputs, index, dim_size + 1)[:dim_size])

    def aggregate_shares(self, messages: Tensor, index: Tensor, num_nodes: int) -> Tensor:
        """AGG, node by node, over messages in any order: (E, B, C) -> (N, B, C)."""
        # PyG's quantiles fail where the first node receives no message.
        if messages.shape[0] == 0 or has_part(self.aggr_module, QuantileAggregation):
            # Two messages to a node before the first, which is cut off again.
            messages = torch.cat([messages.new_zeros(2, *messages.shape[1:]), messages])
            index = torch.cat([index.new_zeros(2), index + 1])
            return self._aggregate_in_order(messages, index, num_nodes + 1)[1:]
        return self._aggregate_in_order(messages, index, num_nodes)

    def _aggregate_in_order(self, messages: Tensor, index: Tensor, num_nodes: int) -> Tensor:
        by_segment = torch_geometric.typing.WITH_TORCH_SCATTER
        if by_segment or not is_channelwise(self.aggr_module):  # these need ascending receivers
            order = index.argsort(stable=True)
            messages, index = messages[order], index[order]
        return super().aggregate_shares(messages, index, num_nodes)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters; the scale cannot depend on the degrees, which are unknown."""
        reset_round(self, generator, by_degree=False)

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """Refused: the cost depends on the graph of the input.

        Raises:
            InputError: always, naming what counts it.
        """
        raise InputError(
            f"the multiply-adds of a {type(self).__name__} depend on the graph of its input; use "
            "mpnn_arch.models.complexity(model, inputs={'x': x[None], 'edge_index': edge_index})"
        )

    def extra_repr(self) -> str:
        """What ``repr`` shows before the submodules."""
        return f"{self.in_channels}, {self.out_channels}, aggr={self.aggr!r}"
