"""A whole model in one file: weights, relational graphs, and the configuration to rebuild it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import shown_path
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.io.weights import check_weights, load_weights
from mpnn_arch.kernels.memory import device_or_default
from mpnn_arch.models.build import build
from mpnn_arch.models.changed import refuse_changed
from mpnn_arch.models.named_parts import check_parts, mark_objects
from mpnn_arch.models.relationalize.report import RelationalizeReport
from mpnn_arch.models.relationalize.saved import (
    RELATIONALIZED,
    load_relationalized,
    save_relationalized,
)
from mpnn_arch.models.saved_schema import SavedModel, check_saved, describe_graphs
from mpnn_arch.rounds import export_choices, import_choices
from mpnn_arch.rounds.wrapped import uncompiled

_KIND = "mpnn_arch model 1"
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

# What the constructors of torch and PyG raise for arguments that they cannot use.
_BUILD_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
)


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path`` as safetensors, atomically.

    Equal models give equal bytes. The file also holds the backends that ``"auto"`` selected in each
    round, since backends round differently and a loaded model gives the same bits. Two models of
    the same weights for which trials selected different backends, or of which only one has run,
    therefore differ in this entry, ``backend_choices``, and in the checksum.

    Args:
        model: one built by :func:`mpnn_arch.models.build` or changed by
            :func:`mpnn_arch.relationalize`, compiled or not.
        path: the file; an existing one is replaced.

    Raises:
        InputError: the model has no configuration or one that JSON cannot express, it was changed
            after it was built, so that :func:`load` would make another one, or the path cannot be
            written.

    Example:
        >>> import mpnn_arch
        >>> from mpnn_arch import graphs, models
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=128)
        >>> mpnn_arch.save(model, "mlp.safetensors")
        >>> mpnn_arch.load("mlp.safetensors").widths == model.widths
        True
    """
    # What torch.compile returns has names of its own for the model's weights.
    model = uncompiled(model)
    if isinstance(getattr(model, "relationalize_report", None), RelationalizeReport):
        save_relationalized(model, path)
        return
    config, graphs = getattr(model, "config", None), getattr(model, "graphs", None)
    if config is None or graphs is None:
        raise InputError(
            f"a {type(model).__name__} has no configuration to rebuild it from; save a model "
            "built by mpnn_arch.models.build, or save its state_dict() and build it yourself"
        )
    objects: Any = getattr(model, "config_objects", {})
    refuse_changed(model, config, graphs, objects)
    tensors, described = describe_graphs(graphs)
    tensors |= {f"model/{name}": value for name, value in model.state_dict().items()}
    metadata = {
        "config": _json("configuration", mark_objects(config, objects)),
        "graphs": _json("graphs", described),
        "backend_choices": _json("backends", export_choices(model)),
    }
    write_tensors(path, tensors, metadata, kind=_KIND)


def load(
    path: str | os.PathLike[str],
    *,
    into: nn.Module | Callable[[], nn.Module] | None = None,
    device: torch.device | str | None = None,
    **changes: Any,
) -> nn.Module:
    """Rebuild the model that :func:`save` wrote.

    The file is not trusted: its metadata are checked first, see
    :func:`~mpnn_arch.models.saved_schema.check_saved`, then the names and shapes of its tensors
    against those of the model, before memory for it is taken. Weights that are not finite are
    loaded with a warning, since one may want to see where a training diverged.

    Args:
        path: the file.
        into: for a file of a relationalized model: the module that was relationalized, which is not
            changed, or a function that builds it. Nothing that the file names is imported.
        device: where to put the model; None: torch's default device, or where ``into`` is.
        **changes: override settings of the saved configuration that do not change the shapes of
            the weights, such as ``backend="reference"``. A message function or an aggregation that
            was given as a class or an instance of your own is given again: ``message=``, ``aggr=``.

    Raises:
        InputError: no such file, or one that is truncated, modified, not a saved model, or forged.

    Example:
        >>> import mpnn_arch
        >>> from mpnn_arch import graphs, models
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=128)
        >>> mpnn_arch.save(model, "mlp.safetensors")
        >>> mpnn_arch.load("mlp.safetensors").graphs == model.graphs
        True
    """
    if into is not None:
        if changes:
            raise InputError(
                f"{next(iter(changes))} changes a built model, and into= is given; leave one out"
            )
        loaded = load_relationalized(path, into, others={_KIND: "leave out into="})
        _warn_if_not_finite(path, loaded.state_dict())
        return loaded if device is None else loaded.to(device)
    saved = read_saved(path)
    config = saved.config | changes
    if config.get("seed") is None:  # built from a generator; the weights are loaded below
        config["seed"] = 0
    name = config.pop("model")
    try:
        check_parts({key: value for key, value in config.items() if key not in changes})
        # Shapes only; "published" takes no memory for the initial weights.
        shapes = build(name, saved.graphs, **config | {"init": "published", "device": "meta"})
        again = (
            f"leave out {', '.join(changes)}, or give what it had" if changes else "save it again"
        )
        weights = saved.weights
        check_weights(shapes, weights, again)
        model = build(name, saved.graphs, **config, device="cpu")
        if "dtype" not in changes:
            _take_dtypes(model, weights)
        load_weights(model, weights)
        if "backend" not in changes:
            import_choices(model, saved.backend_choices)
    except InputError as error:
        raise InputError(f"{shown_path(path)} cannot be loaded: {error}") from None
    except _BUILD_ERRORS as error:
        if changes:  # an argument of the caller may be at fault, and its own error says more
            raise
        raise InputError(
            f"{shown_path(path)} describes a model that cannot be built ({str(error)[:200]}); save "
            "it again"
        ) from error
    _warn_if_not_finite(path, weights)
    return model.to(device_or_default(device))


def read_saved(path: str | os.PathLike[str]) -> SavedModel:
    """The checked content of the file that :func:`save` wrote, without building the model.

    Raises:
        InputError: no such file, or one that is truncated, modified, not a saved model, or forged.
    """
    tensors, metadata = read_tensors(
        path,
        kind=_KIND,
        others={RELATIONALIZED: "give load the module that was relationalized as into="},
    )
    try:
        return check_saved(tensors, metadata)
    except InputError as error:
        raise InputError(
            f"{shown_path(path)} is not a model that mpnn_arch saved: {error}; save it again"
        ) from None
    except RecursionError:
        raise InputError(
            f"{shown_path(path)} is not a model that mpnn_arch saved: its metadata are nested too "
            "deeply; save it again"
        ) from None


def _take_dtypes(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Convert parameters and buffers to the dtypes that were saved."""
    for name, own in model.state_dict(keep_vars=True).items():
        dtype = weights[name].dtype
        if dtype in _DTYPES and own.dtype in _DTYPES:
            own.data = own.data.to(dtype)


def _warn_if_not_finite(path: str | os.PathLike[str], weights: Mapping[str, Tensor]) -> None:
    counts = {name: int((~torch.isfinite(value)).sum()) for name, value in weights.items()}
    bad = {name: count for name, count in counts.items() if count}
    if bad:
        name = next(iter(bad))
        warnings.warn(
            f"{shown_path(path)} holds {sum(bad.values())} numbers that are not finite, the first "
            f"in {name}; the model's outputs will not be finite either",
            stacklevel=3,
        )


def _json(what: str, value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the model's {what} cannot be written as JSON ({error}); build it with names and "
            "numbers, or save its state_dict() and build it yourself"
        ) from None
