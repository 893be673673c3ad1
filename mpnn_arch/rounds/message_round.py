"""One round of message exchange: the paper's Equation 1 as a PyG ``MessagePassing`` module.

x_v' = AGG({f_vu(x_u), u in N(v)}), where x_v are the channels of node v. With f_vu(x_u) = W_vu x_u
and AGG = sum, the round on the complete graph is a dense layer:

>>> import torch
>>> from torch import nn
>>> from mpnn_arch import MessageRound, graphs
>>> dense = nn.Linear(64, 64)
>>> layer = MessageRound(graphs.complete(4), 64, 64)  # 16 messages, as each node sends to all four
>>> layer.load_state_dict(dense.state_dict())  # the matrix, cut into 4 x 4 blocks W_vu
<All keys matched successfully>
>>> x = torch.randn(8, 64)
>>> torch.testing.assert_close(layer(x), dense(x))
"""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Aggregation, MessagePassing
from torch_geometric.typing import OptTensor

from mpnn_arch.checks import check_flag
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels.dispatch.tracing import plain_shape
from mpnn_arch.kernels.memory import device_or_default
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.partition import ChannelPartition, Order
from mpnn_arch.rounds.aggregations import (
    Aggr,
    aggregate_messages,
    aggregation_name,
    make_aggregation,
    restore_quantiles,
)
from mpnn_arch.rounds.cost import round_multiply_adds
from mpnn_arch.rounds.given_parts import given_part
from mpnn_arch.rounds.hooks import rebind_hooks
from mpnn_arch.rounds.initial_scale import reset_round
from mpnn_arch.rounds.messages import MessageFunction, make_message
from mpnn_arch.rounds.share_projection import make_projection
from mpnn_arch.rounds.shares import (
    batched,
    merge_shares,
    own_channels,
    round_graph,
    share_channels,
    split_shares,
)
from mpnn_arch.rounds.state_dict import check_state, register_graph, restore_graph
from mpnn_arch.rounds.steps import (
    check_aggregates,
    check_messages,
    check_node_features,
    check_shares,
    check_steps,
    make_propagate,
    readable_steps,
)
from mpnn_arch.rounds.updates import (
    add_residual,
    check_kwargs,
    check_residual,
    make_activation,
    make_norm,
    make_squeeze,
)


class MessageRound(MessagePassing):
    r"""One round of message exchange on a relational graph (the paper's Equation 1)

    .. math::
        x_v^{(r+1)} = \mathrm{AGG}(\{ f_{vu}(x_u^{(r)}),\ u \in N(v) \}), \qquad
        \mathrm{AGG} = \sigma(\textstyle\sum)

    Node v has a share of the layer's channels, x_v. ``message`` is f_vu with its own parameters on
    every edge, ``aggregate`` is PyG's aggregation over the messages a node receives, and
    ``update`` is sigma. This class implements only the equation;
    :class:`~mpnn_arch.rounds.fused_round.FusedRound` computes the same numbers fast, and in
    :class:`~mpnn_arch.rounds.graph_round.GraphRound` the graph comes with the input.

    Args:
        graph: along whose edges the messages flow, or its specification, as ``"ring:16,4"``.
        in_channels: total number of channels, or their :class:`ChannelPartition` over the nodes.
        out_channels: likewise for the output.
        message: a registered message function's name, or a :class:`MessageFunction` class.
        aggr: a PyG aggregation, by name, class or instance, or a list of them; see
            :mod:`mpnn_arch.rounds.aggregations`. Instances are copied.
        norm: ``"batch"``, ``"layer"``, ``"group"`` (one group per node), or a module over
            (B, C_out, ...); None for none.
        activation: a class of ``torch.nn`` by name, or a callable; None for none.
        bias: whether to add one per output channel, after the aggregation.
        order: the partition order where ``in_channels`` and ``out_channels`` are numbers.
        residual: whether to add the round's input before the activation.
        squeeze_excitation: reduction of a squeeze-and-excitation over the nodes, after the norm;
            None for none.
        message_kwargs: arguments of the message function.
        aggr_kwargs: arguments of the aggregation.
        generator: draws the initial parameters; None for torch's default, as for ``nn.Linear``.
        device: of the parameters, as for ``nn.Linear``.
        dtype: of the parameters.

    Shapes:
        - **x:** (..., C_in) for vectors, (B, C_in, H, W) or (C_in, H, W) for maps
        - **residual:** as the output; a tensor to add before the activation
        - **output:** (..., C_out), or (B, C_out, H', W')
        - node features in PyG: (N, B, channels of the largest share, ...), ``node_dim=0``
        - messages: (E, B, channels of the largest share, ...)

    Raises:
        InputError: channels that are no integers or fewer than nodes, a partition over other
            nodes, parameters that cannot fit into memory, an unknown name, or input of a wrong
            shape.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.

    Example:
        >>> import torch
        >>> from mpnn_arch import MessageRound, graphs
        >>> layer = MessageRound(graphs.ring(4, 2), 8, 12, activation="relu")
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> dense = x @ layer.message_function.dense_weight().T + layer.bias
        >>> torch.testing.assert_close(layer(x), dense.relu())
    """

    edge_index: Tensor
    message_function: MessageFunction

    def __init__(
        self,
        graph: GivenGraph,
        in_channels: int | ChannelPartition,
        out_channels: int | ChannelPartition,
        message: str | type[MessageFunction] = "linear",
        aggr: Aggr = "sum",
        norm: str | nn.Module | None = None,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        bias: bool = True,
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
        with readable_steps(type(self)):
            super().__init__("sum", node_dim=0)
        check_steps(self)
        graph = round_graph(graph)
        check_flag("bias", bias)
        check_kwargs(message_kwargs=message_kwargs, aggr_kwargs=aggr_kwargs)
        device = device_or_default(device)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_partition = share_channels(in_channels, graph, order, "input")
        self.out_partition = share_channels(out_channels, graph, order, "output")
        self.in_channels = self.in_partition.num_channels
        self.out_channels = self.out_partition.num_channels
        plan = make_plan(graph.edge_index, self.in_partition.sizes, self.out_partition.sizes)
        self.aggr = aggregation_name(aggr)
        with torch.device("cpu"):  # for tables and parts, which move below, with their values
            self.message_function = make_message(message, plan, **factory, **(message_kwargs or {}))
            self.aggr_module = make_aggregation(aggr, plan, aggr_kwargs, generator)
            self.projection = make_projection(self.aggr_module, plan, **factory)
            own_bias = nn.Parameter(torch.empty(self.out_channels, **factory)) if bias else None
            self.register_parameter("bias", own_bias)
            self.norm = make_norm(norm, self.out_partition, self.message_function.spatial_dims)
            self.squeeze = make_squeeze(squeeze_excitation, self.out_partition)
            self.residual = check_residual(residual, self.in_partition, self.out_partition)
            self.activation = make_activation(activation)
            self._register_graph(graph)
            self.to(dtype=dtype)
            self.reset_parameters(generator)
        # Those on the meta device stay: a library that loads their values put them there.
        self._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(device))
        self.prepare()

    def _register_graph(self, graph: RelationalGraph) -> None:
        """Keep the graph, in the state dict too; of a GraphRound it comes with the input."""
        register_graph(self, graph)

    @batched
    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:  # (B, C_in, ...)
        """One round: messages along every edge, aggregation at every node, update."""
        if residual is None and self.residual:
            residual = x
        return self.propagate(self._edges, x=split_shares(x, self.plan), residual=residual)

    def message(self, x_j: Tensor, x_i: Tensor, index: Tensor) -> Tensor:
        """f_vu(x_u) on every edge: (E, B, largest_in, ...) -> (E, B, largest_out, ...)."""
        check_shares(self, x_j)
        return self.message_function(x_j, x_i, index)

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """AGG over the messages each node receives, then concatenation of the nodes' shares.

        Raises:
            InputError: messages of another shape, from a ``message`` that was overridden.
        """
        plan, maps = self.plan, "HW"[: self.message_function.spatial_dims]
        check_messages(self, inputs, (plain_shape(index)[0], "B", plan.largest_out, *maps))
        return merge_shares(self.aggregate_shares(inputs, index, dim_size), plan)

    def update(self, inputs: Tensor, residual: OptTensor = None) -> Tensor:
        """sigma, as activation(norm(sum + bias) + residual): (B, C_out, ...) -> (B, C_out, ...).

        Raises:
            InputError: aggregates of another shape, or no residual where the round adds one, from
                a step that was overridden.
        """
        check_aggregates(self, inputs, residual)
        bias = self.bias
        if bias is not None:  # in the sum's dtype under autocast, as in `nn.Linear`
            inputs = inputs + bias.to(inputs.dtype).view(-1, *[1] * (inputs.dim() - 2))
        return self._sigma(inputs, residual)

    def _sigma(self, inputs: Tensor, residual: OptTensor) -> Tensor:
        """:meth:`update` of a sum that has its bias already."""
        if self.norm is not None:
            inputs = self.norm(inputs)
        if self.squeeze is not None:
            inputs = self.squeeze(inputs)
        if residual is not None:
            inputs = add_residual(inputs, residual)
        return inputs if self.activation is None else self.activation(inputs)

    @property
    def plan(self) -> RoundPlan:
        """Index tensors of the round."""
        return self.message_function.plan

    @property
    def _edges(self) -> Tensor:
        """(2, E) along which messages flow: ``edge_index``, whatever was written to that buffer.

        Averages of networks with their buffers, as of ``timm.utils.ModelEmaV2``, round its numbers.
        """
        own = self.edge_index
        return own if own.is_meta else self.plan.edge_index

    def aggregate_shares(self, messages: Tensor, index: Tensor, num_nodes: int) -> Tensor:
        """AGG, node by node: (E, B, largest_out, ...) -> (N, B, largest_out, ...)."""
        own = own_channels(index, self.plan)
        shares = aggregate_messages(self.aggr_module, messages, index, num_nodes, own)
        return shares if self.projection is None else self.projection(shares)

    def prepare(self) -> None:
        """Build the index tensors of the messages, so that they are not built under tracing."""
        self.message_function.prepare()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move parameters and buffers; ``to_empty`` leaves those that are given undefined."""
        super()._apply(fn, recurse)
        if self.graph is not None:
            restore_graph(self)
        restore_quantiles(self.aggr_module)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if self.graph is not None:
            check_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __copy__(self) -> "MessageRound":
        """With the same tensors, parts and hooks, in dictionaries of its own.

        Torch's copy shares those: a part that is set on one would be in both, and the other not
        know of it.
        """
        copied = type(self).__new__(type(self))
        for name, value in vars(self).items():
            copied.__dict__[name] = copy.copy(value) if isinstance(value, dict) else value
        rebind_hooks(copied)
        return copied

    def _set_size(self, size: list[int | None], dim: int, src: Tensor) -> None:
        """Called by PyG for what ``propagate`` gathers along the edges."""
        if self.graph is not None:  # else the nodes are those of the input
            check_node_features(self, src)
        super()._set_size(size, dim, src)

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        """Called by PyG, which generates ``propagate`` at the first object of a class."""
        generate = super()._set_jittable_templates
        make_propagate(type(self), lambda: generate(raise_on_error))

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """Multiply-adds for one sample, ``spatial_size`` being the output's height and width."""
        return round_multiply_adds(self, spatial_size)

    def __prepare_scriptable__(self) -> None:
        """Called by ``torch.jit.script``, which cannot compile a round."""
        raise InputError(
            f"TorchScript does not compile a {type(self).__name__}; use torch.jit.trace, "
            "torch.export or torch.compile, or torch.jit.script(mpnn_arch.to_dense(model))"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig":  # set by `torch.ao.quantization` on all modules of a network
            warnings.warn(
                f"torch.ao.quantization leaves {type(self).__name__} as it is: quantise "
                "mpnn_arch.to_dense(model), in which rounds are nn.Linear and nn.Conv2d",
                stacklevel=2,
            )
        if "graph" in self.__dict__:  # set after the constructor
            if name == "aggr":  # PyG's name for what was asked for
                name = "aggr_module"
            value, given = given_part(self, name, value), value
            if name == "aggr_module" and isinstance(value, Aggregation):  # and no wrapper
                super().__setattr__("aggr", aggregation_name(given))
            elif name == "activation" and not isinstance(value, nn.Module):
                self._modules.pop(name, None)  # torch puts no function in the place of a module
        super().__setattr__(name, value)

    @property
    def decomposed_layers(self) -> int:
        """1: a round is not computed in slices of its channels."""
        return 1

    @decomposed_layers.setter
    def decomposed_layers(self, number: int) -> None:
        if number != 1:
            raise InputError(
                f"a round is not decomposed, its message reads all channels; decomposed_layers is "
                f"1, not {number}"
            )

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters from ``generator``, at a scale that depends on AGG."""
        reset_round(self, generator)

    def extra_repr(self) -> str:
        """What ``repr`` shows before the submodules."""
        return (
            f"{self.in_channels}, {self.out_channels}, graph={self.graph!r}, aggr={self.aggr!r}, "
            f"bias={self.bias is not None}"
        )

    __repr__ = nn.Module.__repr__
