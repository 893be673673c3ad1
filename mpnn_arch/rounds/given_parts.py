"""Parts and settings of a round that are set after it was built: ``layer.aggr = "max"``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Aggregation

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.rounds.aggregations import check_degrees_known, make_aggregation
from mpnn_arch.rounds.given_message import check_given_message
from mpnn_arch.rounds.initial_scale import redraw
from mpnn_arch.rounds.on_trial import place_of
from mpnn_arch.rounds.share_projection import check_given_aggregation
from mpnn_arch.rounds.updates import check_residual, make_activation, make_norm, make_squeeze

# What the weights of a round on a graph of its own were drawn for.
_FIXED = ("graph", "in_partition", "out_partition", "in_channels", "out_channels", "flow")

# Of a convolution: read by its constructor alone, and by nn.Conv2d at every call.
_OF_KERNELS = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


def given_part(layer: Any, name: str, value: Any) -> Any:
    """What is set as ``layer.name`` for ``value``: made and checked as by the constructor.

    Args:
        layer: a :class:`~mpnn_arch.rounds.message_round.MessageRound`, built.
        name: of an attribute.
        value: a part, or what the constructor takes in its place, such as its name.

    Raises:
        InputError: what the constructor refuses, or another graph or other channels, to which the
            weights do not belong.
    """
    has_none = name in vars(type(layer)).get("without", ())  # a subclass may have a use for it
    if has_none and value is not None and value is not False:
        raise InputError(
            f"{name}={shown(value)} would have no effect on a {type(layer).__name__}, whose update "
            f"does not read layer.{name}: apply it to the layer's output"
        )
    if name == "message_function":
        check_given_message(layer, value)
    elif name == "aggr_module":
        return _aggregation(layer, value)
    elif name == "activation":
        return make_activation(value)
    elif name == "residual":
        return check_residual(value, layer.in_partition, layer.out_partition)
    elif name == "norm":
        norm = make_norm(value, layer.out_partition, layer.message_function.spatial_dims)
        return _placed(layer, norm) if isinstance(value, str) else norm
    elif name == "squeeze" and not isinstance(value, nn.Module):
        return _placed(layer, make_squeeze(value, layer.out_partition))
    elif name in _FIXED and layer.graph is not None:
        own = getattr(layer, name)
        if type(value) is not type(own) or value != own:
            raise _fixed(name, value, own)
    elif name == "edge_index" and layer.graph is not None and _are_others(value, layer.graph):
        raise _fixed(name, value, layer.graph)
    return value


def _fixed(name: str, value: Any, own: Any) -> InputError:
    return InputError(
        f"{name} of a built round cannot be set to {shown(value)}, as its weights belong "
        f"to {shown(own)}: build a new round; for another graph of as many nodes "
        "mpnn_arch.widget.rewire(layer, graph) keeps the weights of common edges"
    )


def check_geometry(layer: nn.Module, name: str, value: Any) -> None:
    """Refuse what is set as ``layer.name`` if it is another geometry of a built convolution.

    Raises:
        InputError: as :func:`check_unchanged`.
    """
    if name in _OF_KERNELS and name in vars(layer):
        check_unchanged(layer, name, value, vars(layer)[name])


def check_unchanged(layer: nn.Module, name: str, value: Any, own: Any) -> None:
    """Refuse another geometry of a built convolution; a number stands for a tuple of it.

    Raises:
        InputError: what its messages do not have.
    """
    if value != own and own not in ((value,), (value, value)):
        raise InputError(
            f"{name} of a built {type(layer).__name__} cannot be set to {shown(value)}, as its "
            f"messages were made for {shown(own)}: build another layer with it, and load the "
            "weights of this one"
        )


def _are_others(edges: Any, graph: RelationalGraph) -> bool:
    """Whether these are not the graph's edges; libraries set tensors that hold no numbers yet."""
    if type(edges) is Tensor:
        own = graph.edge_index
        return not (edges.is_meta or torch.equal(edges.to(own), own))
    return edges is None


def put_aggregation(layer: Any, aggr: Aggregation, name: str | list[str]) -> None:
    """Set the aggregation of another round, with the name that it was asked for by."""
    layer.aggr_module = aggr
    vars(layer)["aggr"] = name


def _aggregation(layer: Any, value: Any) -> nn.Module:
    if isinstance(value, nn.Module) and not isinstance(value, Aggregation):
        inside = any(isinstance(part, Aggregation) for part in value.modules())
        if inside:  # of a library that shards or checkpoints it
            return value
    made = value
    if not isinstance(value, Aggregation):
        if layer.graph is None:
            check_degrees_known(value)
        made = _placed(layer, make_aggregation(value, layer.plan))
        redraw(made)
    check_given_aggregation(layer, made)
    return made


def _placed(layer: Any, part: nn.Module | None) -> Any:
    return None if part is None else part.to(**place_of(layer)).train(layer.training)
