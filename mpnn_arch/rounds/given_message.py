"""A message function that is set on a built round, on whose plan it must be."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from mpnn_arch.checks import kind_of
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.plan import RoundPlan, make_plan


def check_given_message(layer: Any, function: Any) -> None:
    """Refuse a message function that was made for another round.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`, built.
        function: a message function, or a module around one, such as a library's.

    Raises:
        InputError: no message function, or one for another graph, other shares, or vectors in the
            place of maps.
    """
    plan = getattr(function, "plan", None)
    if not (isinstance(function, nn.Module) and isinstance(plan, RoundPlan)):
        raise InputError(
            f"the message_function of a round is a MessageFunction on its plan, not "
            f"{kind_of(function)}; make one by rounds.messages.make_message(name, layer.plan)"
        )
    ours, theirs = int(layer.message_function.spatial_dims), cast(Any, function).spatial_dims
    if ours != theirs:
        kinds = {0: "vectors", 2: "maps"}
        raise InputError(
            f"this {type(function).__name__} works on {kinds[theirs]}, and this round on "
            f"{kinds[ours]}; take that of a round of the same kind"
        )
    sizes = layer.in_partition.sizes, layer.out_partition.sizes
    edges = plan.edge_index if layer.graph is None else layer.graph.edge_index
    if plan.num_nodes != len(sizes[0]) or plan.key != make_plan(edges, *sizes).key:
        own = "" if layer.graph is None else f" on {layer.graph!r}"
        raise InputError(
            f"this {type(function).__name__} was made for {plan.num_edges} edges between "
            f"{plan.num_nodes} nodes with {plan.in_channels} -> {plan.out_channels} channels, and "
            f"this round{own} has another graph or other shares ({layer.in_partition.num_channels} "
            f"-> {layer.out_partition.num_channels} channels): take that of a round with the same "
            "graph and partitions"
        )
