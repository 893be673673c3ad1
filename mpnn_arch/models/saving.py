"""A whole model in one file: weights, relational graphs, and the configuration to rebuild it."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from torch import nn

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.models.build import build
from mpnn_arch.models.old_names import renamed
from mpnn_arch.rounds import export_choices, import_choices

_KIND = "mpnn_arch model 1"


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path`` as safetensors, atomically.

    Args:
        model: one built by :func:`mpnn_arch.models.build`.
        path: the file; an existing one is replaced.

    Raises:
        InputError: the model has no configuration, or the path cannot be written.
    """
    config, graphs = getattr(model, "config", None), getattr(model, "graphs", None)
    if config is None or graphs is None:
        raise InputError(
            f"a {type(model).__name__} has no configuration to rebuild it from; save a model "
            "built by mpnn_arch.models.build, or save its state_dict() and build it yourself"
        )
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for number, graph in enumerate(graphs):
        tensors[f"graph/{number}"] = graph.edge_index
    metadata = {
        "config": json.dumps(config),
        "graphs": json.dumps(
            [{"num_nodes": g.num_nodes, "content_hash": g.content_hash} for g in graphs]
        ),
        # Backends round differently: with the same backends, a loaded model gives the same bits.
        "backend_choices": json.dumps(export_choices(model)),
    }
    write_tensors(path, tensors, metadata, kind=_KIND)


def load(
    path: str | os.PathLike[str], *, device: torch.device | str | None = None, **changes: Any
) -> nn.Module:
    """Rebuild the model that :func:`save` wrote.

    Args:
        path: the file.
        device: where to put the model.
        **changes: override settings of the saved configuration that do not change the shapes of
            the weights, such as ``backend="reference"``.

    Raises:
        InputError: no such file, or one that is truncated, modified, or not a saved model.
    """
    tensors, metadata = read_tensors(path, kind=_KIND)
    graphs = []
    for number, entry in enumerate(json.loads(metadata["graphs"])):
        edges = tensors[f"graph/{number}"]
        graphs.append(RelationalGraph(entry["num_nodes"], edges, directed=True, self_loops=False))
    config = json.loads(metadata["config"]) | changes
    if config.get("seed") is None:  # built from a generator; the weights are loaded below
        config["seed"] = 0
    model = build(config.pop("model"), graphs, **config)
    prefix = "model/"
    model.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    if "backend" not in changes:
        choices = json.loads(metadata.get("backend_choices", "{}"))
        names = renamed(model, choices)
        import_choices(model, {names[name]: choice for name, choice in choices.items()})
    return model if device is None else model.to(device)
