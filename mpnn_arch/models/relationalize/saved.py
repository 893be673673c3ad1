"""A relationalized foreign model in a file: which layers are rounds on which graphs, and weights.

The file names no class and no module to import: the caller hands in the model that was
relationalized, or a function that builds it.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import SumAggregation

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.files import shown_path
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.io.weights import check_weights, load_weights
from mpnn_arch.models.relationalize.convert import relationalize
from mpnn_arch.models.relationalize.report import RelationalizeReport
from mpnn_arch.models.saved_schema import SavedLayers, check_saved_layers, describe_graphs
from mpnn_arch.rounds import MessageRound, export_choices, import_choices
from mpnn_arch.rounds.messages import ConvMessage, LinearMessage
from mpnn_arch.rounds.steps import class_of_steps
from mpnn_arch.rounds.wrapped import unwrapped

_STATE = {"bias", "edge_index", "in_sizes", "out_sizes", "graph_hash", "message_function.weight"}
RELATIONALIZED = "mpnn_arch relationalized model 1"


def save_relationalized(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model of :func:`relationalize` as safetensors, atomically.

    Raises:
        InputError: rounds that :func:`load_relationalized` would not make, or state that is no
            tensor.
    """
    graphs, metadata = describe(model)
    tensors = graphs | {f"model/{name}": value for name, value in state_of(model).items()}
    write_tensors(path, tensors, metadata, kind=RELATIONALIZED)


def describe(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Which layers of ``model`` are rounds on which graphs: the edges of these, and JSON texts.

    Raises:
        InputError: rounds beside those of the report and the module's own, or changed ones.
    """
    report: RelationalizeReport = model.relationalize_report  # type: ignore[assignment]
    rounds = {layer.name: layer.graph for layer in report.layers if layer.graph is not None}
    inside = tuple(f"{name}." if name else "" for name in rounds)
    for name, part in model.named_modules():
        if not isinstance(part, MessageRound) or name in report.own_rounds:
            continue
        if name not in rounds and not name.startswith(inside):
            raise InputError(
                f"the round {name!r} is not one that relationalize made from the module; call "
                "relationalize once, on the whole module"
            )
        change = _change(part)
        if change:
            raise InputError(
                f"the round {name!r} was changed after relationalize made it, and load would make "
                f"it as it was: its {change}; save its state_dict() and build it yourself"
            )
    graphs = list({graph.content_hash: graph for graph in rounds.values()}.values())
    number = {graph.content_hash: i for i, graph in enumerate(graphs)}
    edges, described = describe_graphs(graphs)
    metadata = {
        "layers": {name: number[graph.content_hash] for name, graph in rounds.items()},
        "graphs": described,
        "order": report.order,
        "backend": report.backend,
        "backend_choices": export_choices(model),
    }
    return edges, {name: json.dumps(value, sort_keys=True) for name, value in metadata.items()}


def _change(part: MessageRound) -> str:
    """What a round has that none of relationalize has; empty for nothing."""
    message, aggr = unwrapped(part.message_function), part.aggr_module
    added = {
        "norm": part.norm,
        "activation": part.activation,
        "squeeze-excitation": part.squeeze,
        "residual": part.residual or None,
    }
    if not class_of_steps(part).__module__.startswith("mpnn_arch."):
        return f"class is {class_of_steps(part).__name__}"
    if type(message) not in (LinearMessage, ConvMessage):
        return f"message is {type(message).__name__}"
    if type(aggr) is not SumAggregation:
        return f"aggregation is {aggr}"
    if more := sorted(part.state_dict().keys() - _STATE):  # of pruning or a parametrisation
        return f"state has {more[0]}"
    return next((f"{what} is {one}" for what, one in added.items() if one is not None), "")


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, all of it tensors.

    Raises:
        InputError: state that is no tensor.
    """
    state = model.state_dict()
    other = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise InputError(f"the state {other!r} is no tensor and cannot be saved; save without it")
    return state


def load_relationalized(
    path: str | os.PathLike[str],
    into: nn.Module | Callable[[], nn.Module],
    others: Mapping[str, str] | None = None,
) -> nn.Module:
    """The model that :func:`save_relationalized` wrote, from the module that it was made of.

    Args:
        path: the file.
        into: a module of the same architecture, which is not changed, or a function that builds it.
        others: what to do about files of other kinds.

    Raises:
        InputError: no such file, one that is forged, or a module that does not fit it.
    """
    if not isinstance(into, nn.Module):
        into = _built(into) if callable(into) else into
    if not isinstance(into, nn.Module):
        raise InputError(
            f"into is a torch module or a function that returns one, not {shown(into)}; give "
            "the module that was relationalized"
        )
    tensors, metadata = read_tensors(path, kind=RELATIONALIZED, others=others)
    try:
        model = filled(into, check_saved_layers(tensors, metadata))
    except RecursionError:
        raise InputError(
            f"{shown_path(path)} holds metadata nested too deeply; save it again"
        ) from None
    except InputError as error:
        raise InputError(f"{shown_path(path)} cannot be loaded: {error}") from None
    return model


def _built(make: Callable[[], nn.Module]) -> nn.Module:
    """What ``make`` returns.

    Raises:
        InputError: it cannot be called without arguments.
    """
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        name = getattr(make, "__name__", type(make).__name__)
        raise InputError(
            f"into={name} is called without arguments, and it is {error}; give a function that "
            f"builds the module, as lambda: {name}(...), or the module itself"
        ) from None
    except ValueError:  # of a built-in function nothing is known
        pass
    return make()


def filled(module: nn.Module, saved: SavedLayers, *, match_dtypes: bool = False) -> nn.Module:
    """A copy of ``module`` with the rounds and the weights of a file.

    Args:
        module: of the architecture that was relationalized.
        saved: the checked content of the file.
        match_dtypes: give every weight the dtype that it has in the file, not that of the module.

    Raises:
        InputError: a module that does not fit it.
    """
    model = _changed(module, saved)
    weights = saved.weights
    check_weights(model, weights, "give the module that was relationalized")
    if match_dtypes:
        own = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
        for name, tensor in own:
            if name in weights:
                tensor.data = tensor.data.to(weights[name].dtype)
    load_weights(model, weights)
    import_choices(model, saved.backend_choices)
    return model


def _changed(module: nn.Module, saved: SavedLayers) -> nn.Module:
    """A copy of ``module`` with the layers of the file as rounds."""
    names = {name for name, _ in module.named_modules()}
    unknown = sorted(set(saved.layers) - names)
    if unknown:
        raise InputError(
            f"{type(module).__name__} has no layer {unknown[0][:80]!r}; give the module that was "
            "relationalized"
        )

    def graph_of(name: str, layer: nn.Module) -> RelationalGraph | None:
        return saved.graphs[saved.layers[name]] if name in saved.layers else None

    model = relationalize(module, graph_of, (), order=saved.order, backend=saved.backend)  # type: ignore[arg-type]
    report: Any = model.relationalize_report
    left = sorted(set(saved.layers) - set(report.names("round")))
    if left:
        reason = next((o.reason for o in report.layers if o.name == left[0]), "it has no weights")
        raise InputError(
            f"the layer {left[0]!r} cannot be a round here ({reason}); give the module that was "
            "relationalized"
        )
    return model
