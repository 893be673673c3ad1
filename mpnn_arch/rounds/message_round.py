"""One round of message exchange: the paper's Equation 1 as a PyG ``MessagePassing`` module."""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.edge_index import EdgeIndex
from torch_geometric.nn import MeanAggregation, MessagePassing, SumAggregation
from torch_geometric.typing import OptTensor

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.partition import ChannelPartition, Order
from mpnn_arch.rounds.aggregations import (
    Aggr,
    ShareProjection,
    aggregate_messages,
    aggregation_multiply_adds,
    make_aggregation,
    message_gain,
    reset_parameters_of,
    widening,
)
from mpnn_arch.rounds.backend import BackendMixin
from mpnn_arch.rounds.messages import MessageFunction, make_message
from mpnn_arch.rounds.shares import merge_shares, split_shares
from mpnn_arch.rounds.updates import (
    SqueezeExcitation,
    add_residual,
    make_activation,
    make_norm,
)

# The steps of a round, which a subclass may have in its own way.
_STEPS = ("propagate", "message", "aggregate", "message_and_aggregate", "update")


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
        graph: who talks to whom; None where the graph comes with the input, as in a graph neural
            network, whose messages share their parameters.
        in_channels: channels in all, or their :class:`ChannelPartition` over the nodes; without
            ``graph``, the channels of every node.
        out_channels: likewise for the output.
        message: a registered message function's name, or a :class:`MessageFunction` class.
        aggr: a PyG aggregation, by name, class or instance, or a list of them; see
            :mod:`mpnn_arch.rounds.aggregations`. Every round has its own copy.
        norm: ``"batch"``, ``"layer"``, ``"group"`` (a group a node), or a module over
            (B, C_out, ...); None for none.
        activation: a class of ``torch.nn`` by name, or a callable; None for none.
        bias: whether every output channel has one, added after the aggregation.
        backend: ``"auto"`` picks the quickest for a shape by a short timed trial;
            ``"reference"`` passes messages one by one; ``"masked"`` multiplies with the dense
            matrix that has zeros where the graph has no edge; ``"gather"`` fetches what each node
            hears and multiplies node by node; ``"cpu"`` and ``"triton"`` are kernels that do both
            at once. The state dict is the same for all.
        order: the partition order where ``in_channels`` and ``out_channels`` are numbers.
        residual: whether what the nodes held is added, before the activation.
        squeeze_excitation: reduction of a squeeze-and-excitation over the nodes, after the norm;
            None for none.
        message_kwargs: handed to the message function.
        aggr_kwargs: handed to the aggregation.
        generator: draws the initial parameters; None for torch's default one, as ``nn.Linear``.
        device: of the parameters, as for ``nn.Linear``.
        dtype: of the parameters.

    Shapes:
        - **x:** (..., C_in) for vectors, (B, C_in, H, W) or (C_in, H, W) for maps; without
          ``graph`` (..., N, C_in), with an **edge_index** (2, E) and maybe **edge_weight** (E,)
        - **output:** (..., C_out), or (B, C_out, H', W'); without ``graph`` (..., N, C_out)
        - node features inside PyG: (N, B, channels of the largest share, ...), ``node_dim=0``
        - messages: (E, B, channels of the largest share, ...)

    Raises:
        InputError: fewer channels than nodes, a partition over other nodes, an unknown name, a
            backend that cannot compute this message and aggregation, or input of a wrong shape.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.
    """

    SUPPORTS_FUSED_EDGE_INDEX = True
    # Numbers that the messages of one call may hold; more are made for some target nodes at a
    # time, and made again in the backward pass.
    max_message_elements: ClassVar[int] = 2**26

    edge_index: Tensor
    message_function: MessageFunction
    _own_steps: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Begun with the first base's: later, PyG puts a `propagate` of its own on every class.
        own = set(cls._own_steps)
        for kind in cls.__mro__[: cls.__mro__.index(MessageRound)]:
            if kind is cls or not issubclass(kind, MessageRound):
                own.update(name for name in _STEPS if name in vars(kind))
        cls._own_steps = frozenset(own)

    def __init__(
        self,
        graph: RelationalGraph | None,
        in_channels: int | ChannelPartition,
        out_channels: int | ChannelPartition,
        message: str | type[MessageFunction] = "linear",
        aggr: Aggr = "sum",
        norm: str | nn.Module | None = None,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        bias: bool = True,
        backend: str = "auto",
        *,
        order: Order = "first",
        residual: bool = False,
        squeeze_excitation: int | None = None,
        message_kwargs: dict[str, Any] | None = None,
        aggr_kwargs: dict[str, Any] | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__("sum", node_dim=0)
        self.graph = graph
        self.in_partition = _as_partition(in_channels, graph, order, "input")
        self.out_partition = _as_partition(out_channels, graph, order, "output")
        self.in_channels = self.in_partition.num_channels
        self.out_channels = self.out_partition.num_channels

        # Without a graph, the plan is that of one node which talks to itself.
        edge_index = torch.zeros(2, 1, dtype=torch.int64) if graph is None else graph.edge_index
        plan = make_plan(edge_index, self.in_partition.sizes, self.out_partition.sizes)
        parameter_kwargs = {"device": device, "dtype": dtype}
        self.message_function = make_message(
            message, plan, **parameter_kwargs, **(message_kwargs or {})
        )
        if graph is None and not self.message_function.shared:
            raise InputError(
                f"{type(self.message_function).__name__} has parameters on every edge, so the "
                "round needs its graph when it is made; with graph=None use a shared message "
                "such as 'shared_linear' or 'shared_attention'"
            )
        self._batched_dims = 2 + self.message_function.spatial_dims
        self.aggr_module = make_aggregation(aggr, plan, aggr_kwargs)
        self.aggr = _aggr_name(aggr)
        blocks = widening(self.aggr_module, plan.largest_out)
        self.aggr_module.to(dtype=dtype)
        self.projection = ShareProjection(plan, blocks, **parameter_kwargs) if blocks > 1 else None
        self.bias = (
            nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype))
            if bias
            else None
        )
        self.norm = make_norm(norm, self.out_partition, self.message_function.spatial_dims)
        with torch.random.fork_rng(devices=[]):  # drawn below, from the generator
            self.squeeze = (
                None
                if squeeze_excitation is None
                else SqueezeExcitation(self.out_partition, squeeze_excitation)
            )
        self.residual = residual
        if residual and self.in_partition.sizes != self.out_partition.sizes:
            raise InputError(
                f"a residual needs the same shares in and out, these are {self.in_channels} -> "
                f"{self.out_channels} channels; use equal ones, or residual=False"
            )
        for module in (self.norm, self.squeeze):
            if module is not None:
                module.to(dtype=dtype)
        self.activation = make_activation(activation)
        self.backend = backend

        # The graph travels with the weights: a checkpoint tells which graph it was trained on.
        self.register_buffer("edge_index", None if graph is None else edge_index)
        if graph is not None:
            self.register_buffer("in_sizes", torch.tensor(self.in_partition.sizes))
            self.register_buffer("out_sizes", torch.tensor(self.out_partition.sizes))
            self.register_buffer("graph_hash", _hash_tensor(graph))
        self.reset_parameters(generator)
        if device is not None:
            self.to(device)

    # -- the round --------------------------------------------------------------------------

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """One round: messages along every edge, aggregation at every node, update."""
        if self.graph is None:
            return self._on_given_graph(x, edge_index, edge_weight)
        if edge_index is not None or edge_weight is not None:
            raise InputError(
                f"this round stands on {self.graph!r} and takes no other edges; make it with "
                "graph=None to give the graph with the input"
            )
        if x.dim() == self._batched_dims and x.shape[1] == self.in_channels:
            return self._on_own_graph(x)
        leading = self._check_input_shape(x)
        out = self._on_own_graph(x.reshape(-1, *x.shape[len(leading) :]))
        return out.reshape(*leading, *out.shape[1:])

    def _on_own_graph(self, x: Tensor) -> Tensor:
        """The round on (B, C_in, ...)."""
        assert self.graph is not None
        if self._runs_straight():
            # What `propagate` comes to, without its collecting of arguments: on vectors that
            # takes a fifth of the round's time.
            return self.update(self._fused(x), x)
        size = (self.graph.num_nodes, self.graph.num_nodes)
        # A hook that reads messages sees all of them at once.
        # Chunks are counted for messages only: a traced fused round is for any batch size.
        if self.passes_messages and (self._message_hook() or len(self._chunks(x)) == 1):
            shares = split_shares(x, self.plan)
            return self.propagate(self.edge_index, size=size, x=shares, layer=x, edge_weight=None)
        # PyG takes its fused path for an `EdgeIndex` sorted by column (the target).
        sorted_edges = EdgeIndex(self.edge_index, sparse_size=size, sort_order="col")
        return self.propagate(sorted_edges, size=size, x=None, layer=x, edge_weight=None)

    def _on_given_graph(
        self, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None
    ) -> Tensor:
        """The same round along ``edge_index``: every node holds all channels, not a share."""
        edge_index = _check_edges(x, edge_index, self.in_channels)
        num_nodes = x.shape[-2]
        if (edge_index[1].diff() < 0).any():
            order = edge_index[1].argsort(stable=True)
            edge_index = edge_index[:, order]
            edge_weight = None if edge_weight is None else edge_weight[order]
        rows = x.reshape(-1, self.in_channels)  # (B * N, C_in)
        shares = rows.view(-1, num_nodes, self.in_channels).transpose(0, 1)
        out = self.propagate(
            edge_index, size=(num_nodes, num_nodes), x=shares, layer=rows, edge_weight=edge_weight
        )
        return out.view(*x.shape[:-1], out.shape[-1])

    def message(self, x: Tensor, x_j: Tensor, index: Tensor, edge_weight: OptTensor) -> Tensor:
        """f_vu(x_u) on every edge: (E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        messages = self._messages(x, x_j, index)
        return messages if edge_weight is None else messages * edge_weight.view(-1, 1, 1)

    def _messages(
        self, x: Tensor, x_j: Tensor, index: Tensor, edges: slice | None = None
    ) -> Tensor:
        function = self.message_function
        x_i = x.index_select(0, index) if function.uses_target else None
        chosen = {} if edges is None else {"edges": edges}
        messages = function(x_j, x_i, index, **chosen)
        expected = (*x_j.shape[:2], self.plan.largest_out)
        if messages.dim() != x_j.dim() or messages.shape[:3] != expected:
            space = ", H', W'" if function.spatial_dims else ""
            raise InputError(
                f"{type(function).__name__} made messages of shape {tuple(messages.shape)}; "
                f"expected ({', '.join(map(str, expected))}{space}): edges, batch, channels of "
                "the largest share"
            )
        return messages

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """AGG over the messages each node receives, then the nodes' shares side by side."""
        shares = self._aggregate_shares(inputs, index, dim_size)
        if self.projection is not None:
            shares = self.projection(shares)
        if self.graph is None:
            return shares.transpose(0, 1).flatten(0, 1)  # (B * N, C_out)
        return merge_shares(shares, self.plan)

    def message_and_aggregate(self, edge_index: EdgeIndex, layer: Tensor) -> Tensor:
        """``message`` and ``aggregate`` in one: (B, C_in, ...) -> (B, C_out, ...).

        Fused it is one product; otherwise it goes through the target nodes some at a time, so
        that never all messages exist at once.
        """
        return self._in_chunks(layer) if self.passes_messages else self._fused(layer)

    def _fused(self, layer: Tensor) -> Tensor:
        modules = self._modules  # quicker to ask than `self`, which looks in three places first
        out: Tensor = modules["message_function"].fused(layer, self.picker)  # type: ignore[union-attr, operator]
        if type(modules["aggr_module"]) is MeanAggregation:
            out = out / self._channel_degree().to(out.dtype).view(-1, *[1] * (out.dim() - 2))
        return out

    def update(self, inputs: Tensor, layer: Tensor) -> Tensor:
        """Bias, norm, squeeze, residual and activation: (B, C_out, ...) -> (B, C_out, ...)."""
        if self.bias is not None:
            # Under autocast the sum stays in its dtype, as in `nn.Linear`.
            bias = self.bias.to(inputs.dtype)
            inputs = inputs + bias.view(-1, *[1] * (inputs.dim() - 2))
        if self.norm is not None:
            inputs = self.norm(inputs)
        if self.squeeze is not None:
            inputs = self.squeeze(inputs)
        if self.residual:
            inputs = add_residual(inputs, layer)
        return inputs if self.activation is None else self.activation(inputs)

    def _runs_straight(self) -> bool:
        """Whether the round is fused and no hook or step of a subclass needs ``propagate``."""
        return not (
            self.passes_messages
            or self._propagate_forward_pre_hooks
            or self._propagate_forward_hooks
            or self._message_and_aggregate_forward_pre_hooks
            or self._message_and_aggregate_forward_hooks
            or self._own_steps
            or self._explain
            or not self.fuse
        )

    # -- some targets at a time ---------------------------------------------------------------

    def _chunks(self, x: Tensor) -> list[tuple[int, int]]:
        """Ranges of target nodes whose messages fit ``max_message_elements``."""
        plan = self.plan
        per_edge = x.shape[0] * max(plan.largest_in, plan.largest_out) * math.prod(x.shape[2:])
        if per_edge * plan.num_edges <= self.max_message_elements:
            return [(0, plan.num_nodes)]
        if not self.message_function.takes_edges:
            return [(0, plan.num_nodes)]
        chunks, ptr, start = [], plan.edge_ptr.tolist(), 0
        for end in range(1, plan.num_nodes + 1):
            full = (ptr[end] - ptr[start]) * per_edge > self.max_message_elements
            if full and end - 1 > start:
                chunks.append((start, end - 1))
                start = end - 1
        return [*chunks, (start, plan.num_nodes)]

    def _in_chunks(self, layer: Tensor) -> Tensor:
        shares = split_shares(layer, self.plan)

        def run(shares: Tensor, start: int, end: int) -> Tensor:
            edges = slice(int(self.plan.edge_ptr[start]), int(self.plan.edge_ptr[end]))
            source, target = self.edge_index[:, edges]
            messages = self._messages(shares, shares.index_select(0, source), target, edges)
            return self._aggregate_shares(messages, target, end - start, start)

        made = [
            checkpoint(run, shares, *chunk, use_reentrant=False)
            if torch.is_grad_enabled()
            else run(shares, *chunk)
            for chunk in self._chunks(layer)
        ]
        out = torch.cat(made)
        return merge_shares(out if self.projection is None else self.projection(out), self.plan)

    def _aggregate_shares(
        self, messages: Tensor, index: Tensor, num_nodes: int, first: int = 0
    ) -> Tensor:
        """(E, B, largest_out, ...) -> (N, B, largest_out, ...); targets count from ``first``."""
        plan, real = self.plan, None
        if self.graph is not None and plan.out_channels != plan.num_nodes * plan.largest_out:
            channel = torch.arange(plan.largest_out, device=index.device)
            real = channel < plan.out_sizes[index][:, None]
        return aggregate_messages(self.aggr_module, messages, index - first, num_nodes, real)

    # -- what it holds ----------------------------------------------------------------------

    def why_not_fused(self) -> str | None:
        """Why the round is not one product with gathered weights; None if it is one."""
        if self.graph is None:
            return "its graph comes with the input"
        function, aggregation = self._modules["message_function"], self._modules["aggr_module"]
        if not function.fusable:  # type: ignore[union-attr]
            return f"{type(function).__name__} is not one product on every edge"
        own = self._own_steps
        if ("message" in own or "aggregate" in own) and "message_and_aggregate" not in own:
            return f"{type(self).__name__} has a message or aggregate of its own"
        if type(aggregation) not in (SumAggregation, MeanAggregation):
            return f"aggr={self.aggr!r} is not the sum or mean of its messages"
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
        if reason := self.why_not_fused():
            raise InputError(f"this round is not one matrix, {reason}")
        dense = self.message_function.dense_weight()
        if isinstance(self.aggr_module, MeanAggregation):
            dense = dense / self._channel_degree().view(-1, *[1] * (dense.dim() - 1))
        return dense

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """Multiply-adds of the round for one sample: its messages, and what AGG multiplies.

        Args:
            spatial_size: height and width of the output maps, for a round over maps.
        """
        pixels = math.prod(spatial_size)
        spent = self.message_function.multiply_adds(spatial_size)
        spent += aggregation_multiply_adds(self.aggr_module, self.plan, pixels)
        if self.squeeze is not None:
            spent += self.squeeze.multiply_adds()
        return spent if self.projection is None else spent + self.projection.multiply_adds(pixels)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all parameters anew, from ``generator``.

        The initial messages are as large as the aggregation needs them; see
        :func:`mpnn_arch.rounds.aggregations.message_gain`.
        """
        reset_parameters_of(self.aggr_module, generator)
        if self.squeeze is not None:
            reset_parameters_of(self.squeeze, generator)
        if self.projection is not None:
            self.projection.reset_parameters(generator)
        function = self.message_function
        if self.graph is not None and not any(p.is_meta for p in self.parameters()):
            degree = self.plan.edge_ptr.diff()
            function.gain = message_gain(self.aggr_module, degree, self.plan.largest_out)
        function.reset_parameters(generator)
        if self.bias is not None and not self.bias.is_meta:
            fan_in = (self.plan.row_width * function.kernel_area).repeat_interleave(
                self.plan.out_sizes
            )
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
            mine = getattr(self, name, None)
            if (
                tensor is not None
                and mine is not None
                and not torch.equal(tensor.to(mine.device), mine)
            ):
                raise InputError(
                    f"the weights at {prefix or 'the top'!r} belong to {_describe(given)}, this "
                    f"round stands on {self.graph!r} with {self.in_channels} -> "
                    f"{self.out_channels} channels: build the round on the graph and partition "
                    "of the weights"
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _channel_degree(self) -> Tensor:
        """(C_out,) the messages that the node of each output channel receives."""
        plan = self.plan
        return plan.edge_ptr.diff().repeat_interleave(plan.out_sizes, output_size=plan.out_channels)


def _as_partition(
    channels: int | ChannelPartition, graph: RelationalGraph | None, order: Order, which: str
) -> ChannelPartition:
    num_nodes = 1 if graph is None else graph.num_nodes
    if not isinstance(channels, ChannelPartition):
        return ChannelPartition(channels, num_nodes, order)
    if channels.num_nodes != num_nodes:
        raise InputError(
            f"the {which} partition shares channels among {channels.num_nodes} nodes, the graph "
            f"has {num_nodes}: use one share a node"
        )
    return channels


def _aggr_name(aggr: Aggr) -> str | list[str]:
    if isinstance(aggr, list | tuple):
        return [str(one) for one in aggr]
    return aggr.__name__ if isinstance(aggr, type) else str(aggr)


def _check_edges(x: Tensor, edge_index: Tensor | None, in_channels: int) -> Tensor:
    if edge_index is None:
        raise InputError(
            "this round was made with graph=None, so its graph comes with the input: call "
            "round(x, edge_index)"
        )
    if x.dim() < 2 or x.shape[-1] != in_channels:
        raise InputError(f"this round takes (..., N, {in_channels}), it was given {tuple(x.shape)}")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.is_floating_point():
        raise InputError(
            f"an edge_index is (2, E) integers, this one is {tuple(edge_index.shape)} of "
            f"{edge_index.dtype}; row 0 holds sources, row 1 targets"
        )
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < x.shape[-2]:
        worst = edge_index.min() if edge_index.min() < 0 else edge_index.max()
        raise InputError(
            f"the edge_index names node {int(worst)}, x holds nodes 0 to {x.shape[-2] - 1}: give "
            "every node a row of x"
        )
    return edge_index


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
