"""A round on another graph, or with another message or AGG, that keeps the weights it can keep."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
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
from mpnn_arch.rounds.messages import EdgeProduct, make_message
from mpnn_arch.rounds.share_projection import ShareProjection, make_projection
from mpnn_arch.rounds.state_dict import register_graph

Pair = tuple[int, int]


def toggled_graph(graph: GivenGraph, pairs: list[Pair]) -> RelationalGraph:
    """``graph`` with every pair (u, v) of ``pairs`` added, or taken away where it is there.

    In an undirected graph a pair stands for both directions.

    Raises:
        InputError: a node outside the graph, or a node that would receive no message at all.
    """
    graph = as_graph(graph)
    adjacency = graph.adjacency.copy()
    for u, v in pairs:
        if not (0 <= u < graph.num_nodes and 0 <= v < graph.num_nodes):
            raise InputError(
                f"there is no edge from {u} to {v} in a graph of {graph.num_nodes} nodes: nodes "
                f"are numbered 0 to {graph.num_nodes - 1}"
            )
        adjacency[v, u] = not adjacency[v, u]
        if not graph.is_directed:
            adjacency[u, v] = adjacency[v, u]
    silent = np.flatnonzero(~adjacency.any(axis=1))
    if silent.size:
        raise InputError(
            f"node {silent[0]} would receive no message at all: leave it at least one edge"
        )
    return RelationalGraph.from_adjacency(adjacency, directed=True, self_loops=False)


def with_toggled(toggled: list[list[int]], pair: list[int]) -> list[list[int]]:
    """``toggled`` with ``pair`` added, or taken out where it is there: twice is not at all."""
    rest = [other for other in toggled if other != pair]
    return rest if len(rest) < len(toggled) else [*rest, pair]


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
    own = _kind(layer.message_function)
    kind: Any = own if message is None else message
    if isinstance(message, str):
        kind = message_functions.get(message)
    kept = layer.message_function
    if kind is not own:
        kept = _drawn(layer, kind, make_plan(layer.graph.edge_index, *sizes), seed)
    function = _drawn(kept, kind, plan, seed)
    known = np.isin(_places(plan), _places(kept.plan), assume_unique=True)
    if not known.all():
        # Every edge there can be, drawn once.
        every = np.indices((graph.num_nodes,) * 2).reshape(2, -1)
        complete = RelationalGraph(graph.num_nodes, every)
        new = np.zeros(graph.num_nodes, dtype=bool)
        new[plan.target.cpu()[torch.from_numpy(~known)]] = True
        drawn = _drawn(kept, kind, make_plan(complete.edge_index, *sizes), seed)
        _copy_edges(drawn, function, new)
    _copy_edges(kept, function, buffers=_trained_buffers(kept, seed))
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


class _Entries(NamedTuple):
    """Which entries of a parameter belong to which edge: those of a node lie together.

    Attributes:
        parameter: its first dimension is divided among the edges.
        counts: (E,) entries of an edge, which come ``rows[v]`` times at its receiver v.
        rows: (N,) how often the edges of a node are gone through.
    """

    parameter: Tensor
    counts: Tensor
    rows: Tensor

    def offsets(self, edge_ptr: Tensor) -> list[int]:
        """(N + 1,) where the entries of each node begin."""
        ends = F.pad(self.counts.cumsum(0), [1, 0])[edge_ptr]
        return F.pad((ends.diff() * self.rows).cumsum(0), [1, 0]).tolist()

    def of(self, v: int, edges: slice, kept: Tensor) -> Tensor:
        """Of node v's entries, those of the edges that are ``kept`` of its ``edges``: bool."""
        row = kept.repeat_interleave(self.counts[edges])
        return row.repeat(int(self.rows[v])).to(self.parameter.device)


def _edge_entries(function: MessageFunction) -> dict[str, _Entries]:
    """The parameters that edges have of their own, by name."""
    plan = function.plan.to("cpu")
    once = torch.ones(plan.num_nodes, dtype=torch.int64)
    found = {}
    for name, part in function.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(part, EdgeProduct):
            found[f"{prefix}weight"] = _Entries(part.weight, part.rows * part.columns, once)
            if part.bias is not None:
                found[f"{prefix}bias"] = _Entries(part.bias, part.rows, once)
    if function.plan_layout:
        weight: Any = function.weight
        found["weight"] = _Entries(weight, plan.in_sizes[plan.source], plan.out_sizes)
    if not function.shared:  # of a user's own message, with a row per edge
        each = torch.ones(plan.num_edges, dtype=torch.int64)
        own = [*function.named_parameters(recurse=False), *function.named_buffers(recurse=False)]
        for name, tensor in own:
            if name not in found and tensor.dim() and tensor.shape[0] == plan.num_edges:
                found[name] = _Entries(tensor, each, once)
    return found


def _places(plan: RoundPlan) -> np.ndarray:
    """(E,) the place of every edge in the adjacency matrix, ascending."""
    plan = plan.to("cpu")
    places: np.ndarray = (plan.target * plan.num_nodes + plan.source).numpy()
    return places


def _drawn(
    like: MessageFunction | MessageRound, kind: type[MessageFunction], plan: RoundPlan, seed: int
) -> MessageFunction:
    """A message function of ``kind`` on ``plan``, with fresh parameters."""
    function = like.message_function if isinstance(like, MessageRound) else like
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


def _copy_edges(
    source: MessageFunction,
    target: MessageFunction,
    new: np.ndarray | None = None,
    buffers: Collection[str] = (),
) -> None:
    """Give ``target`` the parameters of the edges that both have, and those all edges share.

    Args:
        source, target: message functions of one kind.
        new: (N,) bool, the nodes whose edges are copied; None for all.
        buffers: names of those to copy, too.
    """
    theirs, ours = source.plan.to("cpu"), target.plan.to("cpu")
    chunks = list(_chunks(theirs, ours, new))
    of_edges, to_edges = _edge_entries(source), _edge_entries(target)
    same = _same_in_lists(source, target)
    copied = [(n, buffer) for n, buffer in target.named_buffers() if same.get(n, n) in buffers]
    for name, parameter in [*target.named_parameters(), *copied]:
        with torch.enable_grad():  # computed weights are trained where what they come from is
            given = _numbers(source, same.get(name, name))
        if given is None:
            continue
        parameter.requires_grad_(given.requires_grad)
        with torch.no_grad():
            if name not in to_edges or name not in of_edges:
                if given.shape == parameter.shape:
                    parameter.copy_(given)
                continue
            from_at = of_edges[name].offsets(theirs.edge_ptr)
            to_at = to_edges[name].offsets(ours.edge_ptr)
            for first, last, kept in chunks:
                read = given[from_at[first] : from_at[last]]
                written = parameter[to_at[first] : to_at[last]]
                if kept is None:
                    written.copy_(read)
                    continue
                # The same edges in the same order have the same entries in the same order.
                entries = read[of_edges[name].of(first, *kept[0]).to(read.device)]
                written[to_edges[name].of(first, *kept[1])] = entries.to(written)


def _same_in_lists(source: MessageFunction, target: MessageFunction) -> dict[str, str]:
    """Of every tensor in a list with an entry an edge, its name in the list of ``source``.

    Those of an edge that ``source`` lacks get a name that it lacks.
    """
    edges = source.plan.num_edges, target.plan.num_edges
    parts = dict(source.named_modules())
    at = {int(place): i for i, place in enumerate(_places(source.plan))}
    places, renamed = _places(target.plan).tolist(), {}
    for prefix, part in target.named_modules():
        lists = [part, parts.get(prefix)]
        if not all(isinstance(each, nn.ModuleList | nn.ParameterList) for each in lists):
            continue
        if tuple(len(each) for each in (parts[prefix], part)) == edges:
            for name in part.state_dict():
                i, dot, rest = name.partition(".")
                renamed[f"{prefix}.{name}"] = f"{prefix}.{at.get(places[int(i)])}{dot}{rest}"
    return renamed


_Kept = tuple[slice, Tensor]  # the edges of a node, and which of them another plan has too


def _chunks(
    source: RoundPlan, target: RoundPlan, new: np.ndarray | None
) -> Iterator[tuple[int, int, tuple[_Kept, _Kept] | None]]:
    """Nodes ``first`` to ``last - 1`` with the same edges in both plans, or one that has others."""
    first = 0
    for v in range(source.num_nodes):
        copied = new is None or bool(new[v])
        edges = [slice(*plan.edge_ptr[v : v + 2].tolist()) for plan in (source, target)]
        theirs, ours = source.source[edges[0]], target.source[edges[1]]
        if copied and torch.equal(theirs, ours):
            continue
        if first < v:
            yield first, v, None
        first = v + 1
        if copied:
            yield (
                v,
                v + 1,
                ((edges[0], torch.isin(theirs, ours)), (edges[1], torch.isin(ours, theirs))),
            )
    if first < source.num_nodes:
        yield first, source.num_nodes, None


def _numbers(function: MessageFunction, name: str) -> Tensor | None:
    """The parameter of this name; where it is computed, as a pruned one is, what it is now."""
    owner, _, own = name.rpartition(".")
    part = dict(function.named_modules()).get(owner)
    for hook in list(part._forward_pre_hooks.values()) if part is not None else ():
        if isinstance(hook, BasePruningMethod):
            hook(part, ())  # type: ignore[no-untyped-call]  # it may have moved since it was masked
    value = getattr(part, own, None)
    return value if isinstance(value, Tensor) else None


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
