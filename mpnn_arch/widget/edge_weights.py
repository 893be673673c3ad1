"""The parameters that edges have of their own, copied from one graph's edges to another's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds import MessageFunction
from mpnn_arch.rounds.messages import EdgeProduct


def copy_edges(
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


def places(plan: RoundPlan) -> np.ndarray:
    """(E,) the place of every edge in the adjacency matrix, ascending."""
    plan = plan.to("cpu")
    places: np.ndarray = (plan.target * plan.num_nodes + plan.source).numpy()
    return places


def _same_in_lists(source: MessageFunction, target: MessageFunction) -> dict[str, str]:
    """Of every tensor in a list with an entry an edge, its name in the list of ``source``.

    Those of an edge that ``source`` lacks get a name that it lacks.
    """
    edges = source.plan.num_edges, target.plan.num_edges
    parts = dict(source.named_modules())
    theirs = {int(place): i for i, place in enumerate(places(source.plan))}
    ours, renamed = places(target.plan).tolist(), {}
    for prefix, part in target.named_modules():
        lists = [part, parts.get(prefix)]
        if not all(isinstance(each, nn.ModuleList | nn.ParameterList) for each in lists):
            continue
        if tuple(len(each) for each in (parts[prefix], part)) == edges:
            for name in part.state_dict():
                i, dot, rest = name.partition(".")
                renamed[f"{prefix}.{name}"] = f"{prefix}.{theirs.get(ours[int(i)])}{dot}{rest}"
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
