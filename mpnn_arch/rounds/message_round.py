"""One round of message exchange: the paper's Equation 1 as a PyG ``MessagePassing`` module."""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.nn import Aggregation, MessagePassing

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.partition import ChannelPartition, Order
from mpnn_arch.rounds.backend import BackendMixin
from mpnn_arch.rounds.messages import MessageFunction, make_message
from mpnn_arch.rounds.shares import merge_shares, split_shares
from mpnn_arch.rounds.updates import make_activation, make_norm


class MessageRound(BackendMixin, MessagePassing):
    r"""One round of message exchange on a relational graph (the paper's Equation 1)

    .. math::
        x_v^{(r+1)} = \mathrm{AGG}(\{ f_{vu}(x_u^{(r)}),\ u \in N(v) \}), \qquad
        \mathrm{AGG} = \sigma(\textstyle\sum)

    Node v holds a share of the layer's channels, x_v. ``message`` is f_vu with its own parameters
    on every edge, ``aggregate`` is PyG's aggregation over the messages a node receives, and
    ``update`` adds the bias and applies norm and activation. ``message_and_aggregate`` is the
    fused twin of the first two: one product with the gathered weights.

    Args:
        graph: who talks to whom.
        in_channels: channels in all, or their :class:`ChannelPartition` over the nodes.
        out_channels: likewise for the output.
        message: a registered message function's name, or a :class:`MessageFunction` class.
        aggr: a PyG aggregation, by name or instance.
        norm: ``"batch"`` or a module over (B, C_out, ...); None for none.
        activation: a class of ``torch.nn`` by name, or a callable; None for none.
        bias: whether every output channel has one, added after the aggregation.
        backend: ``"auto"`` picks the quickest for a shape by a short timed trial;
            ``"reference"`` passes messages one by one; ``"masked"`` multiplies with the dense
            matrix that has zeros where the graph has no edge; ``"gather"`` fetches what each node
            hears and multiplies node by node; ``"cpu"`` and ``"triton"`` are kernels that do both
            at once. The state dict is the same for all.
        order: the partition order where ``in_channels`` and ``out_channels`` are numbers.
        message_kwargs: handed to the message function.
        aggr_kwargs: handed to the aggregation.
        generator: draws the initial parameters; None for torch's default one, as ``nn.Linear``.
        device: of the parameters, as for ``nn.Linear``.
        dtype: of the parameters.

    Shapes:
        - **x:** (..., C_in) for vectors, (B, C_in, H, W) or (C_in, H, W) for maps
        - **output:** (..., C_out), or (B, C_out, H', W')
        - node features inside PyG: (N, B, channels of the largest share, ...), ``node_dim=0``
        - messages: (E, B, channels of the largest share, ...)

    Raises:
        InputError: fewer channels than nodes, a partition over other nodes, an unknown name, a
            backend that cannot compute this message and aggregation, or input of a wrong shape.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.
    """

    SUPPORTS_FUSED_EDGE_INDEX = True

    fuse: bool
    edge_index: Tensor
    message_function: MessageFunction

    def __init__(
        self,
        graph: RelationalGraph,
        in_channels: int | ChannelPartition,
        out_channels: int | ChannelPartition,
        message: str | type[MessageFunction] = "linear",
        aggr: str | Aggregation = "sum",
        norm: str | nn.Module | None = None,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        bias: bool = True,
        backend: str = "auto",
        *,
        order: Order = "first",
        message_kwargs: dict[str, Any] | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(aggr, aggr_kwargs=aggr_kwargs, node_dim=0)
        self.graph = graph
        self.in_partition = _as_partition(in_channels, graph, order, "input")
        self.out_partition = _as_partition(out_channels, graph, order, "output")
        self.in_channels = self.in_partition.num_channels
        self.out_channels = self.out_partition.num_channels

        edge_index = graph.edge_index
        plan = make_plan(edge_index, self.in_partition.sizes, self.out_partition.sizes)
        parameter_kwargs = {"device": device, "dtype": dtype}
        self.message_function = make_message(
            message, plan, **parameter_kwargs, **(message_kwargs or {})
        )
        self.bias = (
            nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype))
            if bias
            else None
        )
        self.norm = make_norm(norm, self.out_channels, self.message_function.spatial_dims)
        self.activation = make_activation(activation)
        self.backend = backend

        # The graph travels with the weights: a checkpoint tells which graph it was trained on.
        self.register_buffer("edge_index", edge_index)
        self.register_buffer("in_sizes", torch.tensor(self.in_partition.sizes))
        self.register_buffer("out_sizes", torch.tensor(self.out_partition.sizes))
        self.register_buffer("graph_hash", _hash_tensor(graph))
        self.reset_parameters(generator)
        if device is not None:
            self.to(device)

    # -- the round --------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """One round: messages along every edge, aggregation at every node, update."""
        leading = self._check_input_shape(x)
        x = x.reshape(-1, *x.shape[len(leading) :])  # (B, C_in, ...)
        size = (self.graph.num_nodes, self.graph.num_nodes)
        if self.passes_messages:
            out = self.propagate(self.edge_index, size=size, x=split_shares(x, self.plan), layer=x)
        else:
            # PyG takes its fused path for an `EdgeIndex` sorted by column (the target).
            edge_index = EdgeIndex(self.edge_index, sparse_size=size, sort_order="col")
            out = self.propagate(edge_index, size=size, x=None, layer=x)
        return out.reshape(*leading, *out.shape[1:])

    def message(self, x: Tensor, x_j: Tensor, index: Tensor) -> Tensor:
        """f_vu(x_u) on every edge: (E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        x_i = x.index_select(0, index) if self.message_function.uses_target else None
        return self.message_function(x_j, x_i, index)

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """AGG over the messages each node receives, then the nodes' shares side by side."""
        shares = self.aggr_module(inputs, index, dim_size=dim_size, dim=self.node_dim)
        return merge_shares(shares, self.plan)

    def message_and_aggregate(self, edge_index: EdgeIndex, layer: Tensor) -> Tensor:
        """``message`` and ``aggregate`` in one product: (B, C_in, ...) -> (B, C_out, ...)."""
        return self.message_function.fused(layer, self.picker)

    def update(self, inputs: Tensor) -> Tensor:
        """Bias, norm and activation: (B, C_out, ...) -> (B, C_out, ...)."""
        if self.bias is not None:
            # Under autocast the sum stays in its dtype, as in `nn.Linear`.
            bias = self.bias.to(inputs.dtype)
            inputs = inputs + bias.view(-1, *[1] * (inputs.dim() - 2))
        if self.norm is not None:
            inputs = self.norm(inputs)
        return inputs if self.activation is None else self.activation(inputs)

    # -- what it holds ----------------------------------------------------------------------

    def why_not_fused(self) -> str | None:
        """Why the round is not one product with gathered weights; None if it is one."""
        if not self.message_function.fusable:
            return f"{type(self.message_function).__name__} is not one product on every edge"
        if self.aggr not in ("sum", "add"):
            return f"aggr={self.aggr!r} is not the sum of its messages"
        return None

    @property
    def plan(self) -> RoundPlan:
        """Where every share, message and weight lies."""
        plan: RoundPlan = self.message_function.plan
        return plan

    def dense_weight(self) -> Tensor:
        """The (C_out, C_in, ...) matrix of the round, zero where the graph has no edge.

        Raises:
            InputError: the round is not a product with one matrix.
        """
        return self.message_function.dense_weight()

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """Multiply-adds of all messages for one sample; ``spatial_size`` of the output maps."""
        return self.message_function.multiply_adds(spatial_size)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw messages' parameters and biases anew, from ``generator``."""
        super().reset_parameters()
        function = getattr(self, "message_function", None)
        if function is None:  # PyG's own constructor may call this before ours is done
            return
        function.reset_parameters(generator)
        if self.bias is not None and not self.bias.is_meta:
            area = 1
            if function.spatial_dims:
                area = function.weight.shape[-1] * function.weight.shape[-2]
            fan_in = (self.plan.row_width * area).repeat_interleave(self.plan.out_sizes)
            bound = fan_in.to(torch.float64).rsqrt().to(self.bias.dtype)
            drawn = torch.empty(self.out_channels, dtype=self.bias.dtype)
            drawn.uniform_(-1, 1, generator=generator)
            with torch.no_grad():
                self.bias.copy_(drawn * bound.to(drawn.device))

    def extra_repr(self) -> str:
        """What ``repr`` shows before the submodules."""
        return (
            f"{self.in_channels}, {self.out_channels}, graph={self.graph!r}, aggr={self.aggr!r}, "
            f"bias={self.bias is not None}, backend={self.backend!r}"
        )

    __repr__ = nn.Module.__repr__

    # -- checks -----------------------------------------------------------------------------

    def _check_input_shape(self, x: Tensor) -> torch.Size:
        """The leading (batch) dimensions of ``x``."""
        spatial = self.message_function.spatial_dims
        channel_dim = x.dim() - 1 - spatial
        fits = channel_dim == 0 or (channel_dim == 1 if spatial else channel_dim > 0)
        if not fits or x.shape[channel_dim] != self.in_channels:
            wanted = f"(B, {self.in_channels}, H, W)" if spatial else f"(..., {self.in_channels})"
            raise InputError(f"this round takes {wanted}, it was given {tuple(x.shape)}")
        return x.shape[:channel_dim]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        names = ("graph_hash", "edge_index", "in_sizes", "out_sizes")
        given = {name: state_dict.get(prefix + name) for name in names}
        for name, tensor in given.items():
            mine = getattr(self, name)
            if tensor is not None and not torch.equal(tensor.to(mine.device), mine):
                raise InputError(
                    f"the weights at {prefix or 'the top'!r} belong to {_describe(given)}, this "
                    f"round stands on {self.graph!r} with {self.in_channels} -> "
                    f"{self.out_channels} channels: build the round on the graph and partition "
                    "of the weights"
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        # PyG writes a `propagate` for the class from its first instance. Were that one's
        # aggregation not fusable, no later instance could take the fused path.
        fuse, self.fuse = self.fuse, True
        super()._set_jittable_templates(raise_on_error)
        self.fuse = fuse


def _as_partition(
    channels: int | ChannelPartition, graph: RelationalGraph, order: Order, which: str
) -> ChannelPartition:
    if not isinstance(channels, ChannelPartition):
        return ChannelPartition(channels, graph.num_nodes, order)
    if channels.num_nodes != graph.num_nodes:
        raise InputError(
            f"the {which} partition shares channels among {channels.num_nodes} nodes, the graph "
            f"has {graph.num_nodes}: use one share a node"
        )
    return channels


def _hash_tensor(graph: RelationalGraph) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(graph.content_hash), dtype=torch.uint8)


def _describe(given: dict[str, Tensor | None]) -> str:
    """A graph told from its buffers in a state dict."""
    edge_index, sizes, digest = given["edge_index"], given["in_sizes"], given["graph_hash"]
    if edge_index is None or sizes is None or digest is None or given["out_sizes"] is None:
        return "another graph"
    return (
        f"a graph of {len(sizes)} nodes and {edge_index.shape[1]} messages "
        f"(hash={bytes(digest.tolist()).hex()[:8]}) with {int(sizes.sum())} -> "
        f"{int(given['out_sizes'].sum())} channels"
    )
