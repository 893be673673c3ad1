"""A round on another graph, or with another message or AGG, that keeps the weights it can keep."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import torch
from torch.nn.utils.parametrize import type_before_parametrizations
from torch_geometric.nn.aggr import DegreeScalerAggregation

from mpnn_arch.checks import check_kind, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph, as_graph
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.rounds import FusedRound, MessageFunction, MessageRound, message_functions
from mpnn_arch.rounds.aggregations import (
    Aggr,
    aggregation_name,
    degree_scaled,
    make_aggregation,
)
from mpnn_arch.rounds.copied import deep_copy
from mpnn_arch.rounds.given_parts import put_aggregation
from mpnn_arch.rounds.initial_scale import redraw
from mpnn_arch.rounds.messages import make_message
from mpnn_arch.rounds.share_projection import ShareProjection, make_projection
from mpnn_arch.rounds.state_dict import register_graph
from mpnn_arch.widget.edge_weights import copy_edges, places


def rewire(
    layer: MessageRound,
    graph: GivenGraph,
    message: str | type[MessageFunction] | None = None,
    aggr: Aggr | None = None,
    seed: int = 0,
) -> MessageRound:
    """A copy of ``layer`` on ``graph``, with the weights of every edge that both graphs have.

    A new edge's weights are drawn from ``seed`` and depend on nothing but the edge, so that an
    edge that goes and comes back, or comes in another order, is the same edge. Of weights that are
    computed (pruned, parametrised) the copy has the numbers, as plain parameters.

    Args:
        layer: stays as it is.
        graph: over as many nodes.
        message: name or class of another message function, whose parameters are then drawn
            from ``seed``; None keeps the layer's.
        aggr: another aggregation, as for a round, whose parameters are then drawn from ``seed``;
            None keeps the layer's.
        seed: draws what is new.

    Raises:
        InputError: an unknown name, a message or aggregation that does not fit the shares, or a
            graph over another number of nodes.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.widget import rewire
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
        >>> denser = rewire(layer, graphs.complete(4))
        >>> layer.weight.numel(), denser.weight.numel()
        (48, 64)
    """
    check_kind("layer", layer, MessageRound, "give a RelationalLinear or RelationalConv2d")
    seed = check_whole("seed", seed, 0, 2**63 - 1)
    graph = as_graph(graph)
    if graph.num_nodes != layer.in_partition.num_nodes:
        raise InputError(
            f"the shares of this {type(layer).__name__} are those of "
            f"{layer.in_partition.num_nodes} nodes, and the graph has {graph.num_nodes}: give one "
            "of as many nodes, or build a new round on it"
        )
    made = deep_copy(layer)
    sizes = layer.in_partition.sizes, layer.out_partition.sizes
    plan = make_plan(graph.edge_index, *sizes).to(layer.plan.device)
    kind: Any = message_functions.get(message) if isinstance(message, str) else message
    kind = _kind(layer.message_function) if kind is None else kind
    function = _message(layer, kind, plan, seed)
    aggregation = _aggregation(layer, plan, aggr, seed)

    register_graph(made, graph)
    made.message_function = function
    parameter = next(layer.parameters(), torch.empty(0))
    projection = _projection(layer, aggregation, plan, aggr, seed)
    made.projection = None if projection is None else projection.to(parameter.dtype)
    name = layer.aggr if aggr is None else aggregation_name(aggr)
    put_aggregation(made, aggregation.to(parameter.dtype), name)
    made.to(layer.edge_index.device)
    if isinstance(made, FusedRound):
        # Assigning it selects anew: another plan, and maybe no product any more.
        literal = made.why_not_fused() and made.backend != "reference"
        made.backend = "auto" if literal else made.backend
    else:
        made.prepare()
    return made


def _message(
    layer: MessageRound, kind: type[MessageFunction], plan: RoundPlan, seed: int
) -> MessageFunction:
    """One of ``kind`` on ``plan``: the layer's own kind keeps the weights of common edges."""
    kept = layer.message_function
    sizes = layer.in_partition.sizes, layer.out_partition.sizes
    if kind is not _kind(kept):
        kept = _drawn(kept, kind, make_plan(layer.graph.edge_index, *sizes), seed)
    function = _drawn(kept, kind, plan, seed)
    known = np.isin(places(plan), places(kept.plan), assume_unique=True)
    if not known.all():
        # Every edge there can be, drawn once.
        every = np.indices((plan.num_nodes,) * 2).reshape(2, -1)
        complete = RelationalGraph(plan.num_nodes, every)
        new = np.zeros(plan.num_nodes, dtype=bool)
        new[plan.target.cpu()[torch.from_numpy(~known)]] = True
        drawn = _drawn(kept, kind, make_plan(complete.edge_index, *sizes), seed)
        copy_edges(drawn, function, new)
    copy_edges(kept, function, buffers=_trained_buffers(kept, seed))
    return function


def _drawn(
    function: MessageFunction, kind: type[MessageFunction], plan: RoundPlan, seed: int
) -> MessageFunction:
    """One of ``kind`` on ``plan`` with fresh parameters, else made as ``function`` was."""
    kwargs = dict(function.factory)
    parameter = next(function.parameters(), None)
    if parameter is not None:
        kwargs = {"device": parameter.device, "dtype": parameter.dtype}
    if function.geometry is not None:
        kwargs |= function.geometry._asdict()
    if kind is _kind(function):
        kwargs |= _own_arguments(function, kind)
    with torch.random.fork_rng(devices=[]):  # of torch's layers in a message of a user's own
        torch.default_generator.manual_seed(seed)
        made = make_message(kind, plan.to("cpu"), **kwargs | {"device": "cpu"})
    made.set_initial_gain(function.initial_gain)
    made.reset_parameters(torch.Generator().manual_seed(seed))
    made.to(device=kwargs.get("device") or "cpu", dtype=kwargs.get("dtype"))
    return made.train(function.training)


def _kind(function: MessageFunction) -> type[MessageFunction]:
    kind: type[MessageFunction] = type_before_parametrizations(function)
    return kind


def _own_arguments(function: MessageFunction, kind: type[MessageFunction]) -> dict[str, Any]:
    """What a message function was made with, in copies; of one made by hand, what it kept."""
    if function._made_with is not None:
        return copy.deepcopy(function._made_with)
    return {
        name: getattr(function, name)
        for name, argument in inspect.signature(kind.__init__).parameters.items()
        if argument.kind is argument.KEYWORD_ONLY and hasattr(function, name)
    }


def _trained_buffers(function: MessageFunction, seed: int) -> set[str]:
    """Names of the buffers that are not what construction makes of the plan, as a batch norm's."""
    buffers = dict(function.named_buffers())
    if not buffers:
        return set()
    built = dict(_drawn(function, _kind(function), function.plan, seed).named_buffers())
    return {
        name for name in buffers if name in built and not torch.equal(buffers[name], built[name])
    }


def _aggregation(layer: MessageRound, plan: RoundPlan, aggr: Aggr | None, seed: int) -> Any:
    if aggr is None:
        return _with_degrees(copy.deepcopy(layer.aggr_module), layer.plan, plan)
    made = make_aggregation(aggr, plan)
    redraw(made, torch.Generator().manual_seed(seed))
    return made


def _with_degrees(aggregation: Any, old: RoundPlan, new: RoundPlan) -> Any:
    """The same, where it scales by a graph's mean degrees those of the new one, unless learned."""
    for part in aggregation.modules():
        if isinstance(part, DegreeScalerAggregation):
            was, now = degree_scaled(old, {}), degree_scaled(new, {})
            names = ("init_avg_deg_lin", "init_avg_deg_log")
            if all(getattr(part, name) == getattr(was, name) for name in names):  # and none given
                vars(part).update({name: getattr(now, name) for name in names})
                if not [*part.parameters(recurse=False)]:
                    part.reset_parameters()
    return aggregation


def _projection(
    layer: MessageRound, aggregation: Any, plan: RoundPlan, aggr: Aggr | None, seed: int
) -> ShareProjection | None:
    """The layer's own where AGG stays: it depends on the shares, not on the edges."""
    if aggr is None and layer.projection is not None:
        return copy.deepcopy(layer.projection)
    made = make_projection(aggregation, plan.to("cpu"))
    if made is not None:
        made.reset_parameters(torch.Generator().manual_seed(seed))
    return made
