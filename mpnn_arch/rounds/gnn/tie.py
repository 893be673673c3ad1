"""Between rounds on a relational graph and GNN layers."""

from __future__ import annotations

import copy
from typing import Any

import torch

from mpnn_arch.checks import kind_of
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.rounds.given_parts import put_aggregation
from mpnn_arch.rounds.gnn.from_pyg import fill
from mpnn_arch.rounds.graph_round import GraphRound
from mpnn_arch.rounds.layers import RelationalLinear
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import SharedLinearMessage
from mpnn_arch.rounds.shares import round_graph
from mpnn_arch.rounds.steps import class_of_steps


def tie(layer: MessageRound) -> GraphRound:
    """The GNN layer equal to a round of shared messages, with a copy of its weights.

    On the layer's relational graph, with the nodes' shares as features, it computes the round.

    Raises:
        InputError: messages other than ``shared_linear``, uneven shares, a bias that differs from
            node to node, or a norm, activation or projection, which are not copied.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds.gnn import tie
        >>> graph = graphs.ring(4, 2)
        >>> layer = RelationalLinear(graph, 8, 8, message="shared_linear", bias=False)
        >>> x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
        >>> nodes = x.view(3, 4, 2)  # (B, N, C)
        >>> torch.testing.assert_close(tie(layer)(nodes, graph.edge_index).flatten(1), layer(x))
    """
    _check_round(layer)
    graph, function = layer.graph, layer.message_function
    if graph is None or not isinstance(function, SharedLinearMessage):
        raise InputError(
            "only a round on a graph with message='shared_linear' has one weight for all edges; "
            f"this one has {type(function).__name__}"
        )
    _check_plain(layer)
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
    put_aggregation(gnn, copy.deepcopy(layer.aggr_module), layer.aggr)
    return fill(gnn, copied)


def untie(layer: GraphRound, graph: GivenGraph) -> RelationalLinear:
    """The relational round equal to a GNN layer on ``graph``, with a copy of its weight per edge.

    Its input and output are the nodes' features, concatenated. In training the copies diverge.

    Raises:
        InputError: messages other than ``shared_linear``, a layer that has a fixed graph or
            normalises its messages, or a norm, activation or projection, which are not copied.

    Example:
        >>> from mpnn_arch import GraphRound, graphs
        >>> from mpnn_arch.rounds.gnn import untie
        >>> layer = untie(GraphRound(2, 2, bias=False), graphs.ring(4, 2))
        >>> layer.weight.numel()  # a 2 x 2 matrix on each of 12 edges
        48
    """
    _check_round(layer)
    function = layer.message_function
    if layer.graph is not None or not isinstance(function, SharedLinearMessage):
        raise InputError(
            "only a GNN layer with message='shared_linear' and the graph as input can be untied; "
            f"this one has {type(function).__name__} and graph={layer.graph!r}"
        )
    if getattr(layer, "normalize", False):
        raise InputError(
            "this GCN divides messages by the degrees, which a relational round does not; untie "
            "one with normalize=False"
        )
    _check_plain(layer)
    if layer._awaiting is not None:
        raise InputError(
            "the channels of this layer are not known yet; call it once, or create it with its "
            "in_channels"
        )
    graph = round_graph(graph)
    if layer.flow == "target_to_source" and graph.is_directed:
        graph = RelationalGraph(graph.num_nodes, graph.edges[::-1], directed=True, self_loops=False)
    n = graph.num_nodes
    widths = (n * layer.source_channels, n * layer.out_channels)
    factory: dict[str, Any] = {"device": function.weight.device, "dtype": function.weight.dtype}
    tied = MessageRound(graph, *widths, "shared_linear", bias=False, **factory)
    tied_function: Any = tied.message_function
    own_bias: Any = layer.bias
    with torch.no_grad():
        tied_function.weight.copy_(function.weight)
        bias = None if own_bias is None else own_bias.repeat(n)
        untied = RelationalLinear(graph, *widths, layer.bias is not None, layer.aggr_module)
        copied = {"message_function.weight": tied_function.flat_weight(), "bias": bias}
        put_aggregation(untied, copy.deepcopy(layer.aggr_module), layer.aggr)
        return fill(untied, copied)


def _check_round(layer: Any) -> None:
    if not isinstance(layer, MessageRound):
        raise InputError(
            "tie and untie take a round of this library, not "
            f"{kind_of(layer).removeprefix('a ')}; convert a layer of PyG with from_pyg first, as "
            "in GCN.from_pyg(layer)"
        )


def _check_plain(layer: MessageRound) -> None:
    """Only message, aggregation and bias are copied."""
    parts = ("norm", "squeeze", "projection", "activation", "residual")
    for own in (class_of_steps(layer), class_of_steps(layer.message_function)):
        if not own.__module__.startswith("mpnn_arch."):
            raise InputError(
                f"this round computes by a class of your own, {own.__name__}, which is not copied: "
                "convert a round of this library's classes"
            )
    more = [name for name in parts if getattr(layer, name)]
    if more:
        raise InputError(
            f"this round also has {' and '.join(more)}, which are not copied; create it without "
            "and apply them to its output"
        )
