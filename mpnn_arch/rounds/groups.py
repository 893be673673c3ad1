"""Groups of channels that exchange no messages: a round on several copies of a graph."""

from __future__ import annotations

import numpy as np

from mpnn_arch.checks import whole_number
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.partition import ChannelPartition, Order


def copies(graph: RelationalGraph, count: int) -> RelationalGraph:
    """The disjoint union of ``count`` copies of ``graph``: node v of copy i is node i N + v."""
    offsets = graph.num_nodes * np.arange(count)
    edges = (graph.edges[:, None, :] + offsets[None, :, None]).reshape(2, -1)
    return RelationalGraph(count * graph.num_nodes, edges, directed=True, self_loops=False)


def is_complete(graph: RelationalGraph, groups: int) -> bool:
    """Whether ``graph`` is ``groups`` copies of a complete graph: all messages within a group."""
    size, rest = divmod(graph.num_nodes, groups)
    if rest or graph.edges.shape[1] != groups * size**2:
        return False
    source, target = graph.edges // size
    return bool((source == target).all())


def group_channels(
    channels: int | ChannelPartition, graph: RelationalGraph, groups: int, order: Order, side: str
) -> ChannelPartition:
    """The partition of ``channels`` over the copies of ``graph``: every group has the same shares.

    Raises:
        InputError: a partition instead of a number, channels that the groups do not divide, or
            fewer channels in a group than nodes.
    """
    if isinstance(channels, ChannelPartition):
        raise InputError(
            f"with groups={groups} the {side} is a number of channels, not a partition; give a "
            "number, or a graph of separate groups of nodes"
        )
    channels = whole_number(f"the number of {side} channels", channels)
    if channels % groups:
        raise InputError(
            f"{channels} {side} channels cannot be divided into {groups} equal groups; use a "
            "multiple"
        )
    one = ChannelPartition(channels // groups, graph.num_nodes, order)
    return ChannelPartition.from_sizes(one.sizes * groups)
