"""The module that a folder of save_pretrained is read into: the caller's, or one of its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.models.saved_schema import SavedLayers

CONFIG = "config.json"


def module_to_fill(folder: Path, into: Any, config: Any, saved: SavedLayers) -> nn.Module:
    """The caller's module, or a new one of the caller's class.

    Args:
        folder: of the files.
        into: a module, a function that builds one, or a class of model of transformers.
        config: for a class; None: that of the folder, without what may name code.
        saved: the checked content of the files, which bounds the size of the module.

    Raises:
        InputError: none of these, or a class, configuration and files that do not fit together.
    """
    kind = getattr(into, "config_class", None)
    if isinstance(into, type) and hasattr(into, "_model_mapping"):
        raise InputError(
            f"{into.__name__} takes the class from a name in {CONFIG}; give the class itself, "
            "such as transformers.LlamaForCausalLM"
        )
    if not isinstance(into, type) or kind is None:
        if config is not None:
            raise InputError("config is for a class of model, and into is none; leave it out")
        made = into() if callable(into) and not isinstance(into, nn.Module) else into
        if not isinstance(made, nn.Module):
            raise InputError(
                f"into is a class of model of transformers, a module, or a function that builds "
                f"one, not {shown(into)}; give the class that was relationalized"
            )
        return made
    if config is None:
        config = _read_config(folder, kind)
    elif not isinstance(config, kind):
        raise InputError(f"{into.__name__} takes a {kind.__name__}, not {shown(config)}")
    with torch.device("meta"):  # shapes only: a forged configuration may ask for any size
        needed = sum(parameter.numel() for parameter in _build(into, config).parameters())
    # A round on N nodes keeps at least N of its N^2 blocks, so the dense module has at most about N
    # times the numbers of the files; 4 leaves room for shares that differ by a channel.
    elements = sum(value.numel() for value in saved.weights.values())
    nodes = max((graph.num_nodes for graph in saved.graphs), default=1)
    if needed > 4 * nodes * max(elements, 1_000):
        raise InputError(
            f"its {CONFIG} describes {needed:,} parameters, and the files hold {elements:,}"
        )
    with torch.random.fork_rng(devices=[]):
        return _build(into, config)


def _build(kind: Any, config: Any) -> nn.Module:
    try:
        made: nn.Module = kind(config)
    except Exception as error:  # whatever a model's constructor raises
        raise InputError(
            f"{kind.__name__} cannot be built from its configuration ({_line(error)})"
        ) from None
    return made


def _read_config(folder: Path, kind: Any) -> Any:
    try:
        values = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"its {CONFIG} cannot be read ({str(error)[:200]})") from None
    model_type = values.get("model_type") if isinstance(values, dict) else None
    if model_type != getattr(kind, "model_type", None):
        raise InputError(
            f"its {CONFIG} is of a model {shown(model_type)}, and a {kind.__name__} was "
            "asked for; give the class that was relationalized"
        )
    try:
        return kind.from_dict(_harmless(values))
    except Exception as error:  # the library's checks raise classes of their own
        raise InputError(f"its {CONFIG} is no {kind.__name__} ({_line(error)})") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _harmless(value: Any) -> Any:
    """A configuration without settings that may name code: kernels of a hub, classes to import."""
    if isinstance(value, dict):
        return {
            key: _harmless(one)
            for key, one in value.items()
            if not (key.startswith("_") or key == "auto_map" or key.endswith("_implementation"))
        }
    return [_harmless(one) for one in value] if isinstance(value, list) else value
