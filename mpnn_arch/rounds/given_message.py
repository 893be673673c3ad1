"""A message function, or its weight, that is set on a built round."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from mpnn_arch.checks import counted, kind_of
from mpnn_arch.errors import InputError, ShapeError
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
        links, nodes = counted(plan.num_edges, "edge"), counted(plan.num_nodes, "node")
        raise InputError(
            f"this {type(function).__name__} was made for {links} between {nodes} with "
            f"{plan.in_channels} -> {plan.out_channels} channels, and this round{own} has another "
            f"graph or other shares ({layer.in_partition.num_channels} -> "
            f"{layer.out_partition.num_channels} channels): take that of a round with the same "
            "graph and partitions"
        )


def check_given_weight(layer: Any, value: Any) -> None:
    """Refuse a weight that is set on a round, if it is no parameter or of another shape.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`, built.
        value: what is set; what is no tensor is refused by torch.

    Raises:
        InputError: a tensor in the place of a parameter.
        ShapeError: a matrix, or numbers for other edges or shares.
    """
    function = layer.message_function
    if not isinstance(value, Tensor):
        return
    if "weight" in function._parameters and not isinstance(value, nn.Parameter):
        raise InputError(
            "the weight of a round is a parameter of its message function, and a tensor was "
            "given: set an nn.Parameter; in torch.func.functional_call its name is "
            "'message_function.weight'"
        )
    if not function.plan_layout:
        return
    kernel = () if function.geometry is None else function.geometry.kernel_size
    expected = (layer.plan.num_weights, *kernel)
    if tuple(value.shape) != expected:
        raise ShapeError(
            f"the weight of this round has shape {expected}, an entry for every pair of "
            f"channels on an edge, not {tuple(value.shape)}; functions that set a matrix, as "
            "torch.nn.utils.fusion's, take mpnn_arch.to_dense(layer)"
        )
