"""Whether a model is still the one that its configuration builds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Aggregation

from mpnn_arch.errors import InputError
from mpnn_arch.io.tensor_bytes import tensor_bytes
from mpnn_arch.models.build import build
from mpnn_arch.rounds import MessageFunction, MessageRound
from mpnn_arch.rounds.steps import class_of_steps

# `fuse` chooses how a round is computed, `aggr` names its AGG; a message's device and dtype are
# those of its weights.
_NO_SETTINGS = frozenset([*vars(nn.Module()), "fuse", "aggr", "factory", "plan", "initial_gain"])


def refuse_changed(
    model: nn.Module, config: Mapping[str, Any], graphs: Any, objects: Mapping[str, Any]
) -> None:
    """Refuse a model that differs from the one which its configuration and ``objects`` build.

    Raises:
        InputError: other weights, rounds of another class, message, AGG, residual or activation,
            other parts without weights, or parts with other settings.
    """
    settings = {**config, **objects, "seed": 0, "init": "published", "device": "meta"}
    built = build(settings.pop("model"), graphs, **settings)
    found, expected = _traits(model), _traits(built)
    for part in [name for name in found if name.startswith("the part ")]:
        if part not in expected:  # a metric or a loss that the user keeps there changes no output
            del found[part]
    _refuse(model, {n: (found.get(n), expected.get(n)) for n in found | expected})
    own = dict(model.named_modules())
    for name, part in built.named_modules():
        if name:  # the model's own are what it was built from
            _refuse(model, _changed_settings(name, own.get(name, part), part))


def _refuse(model: nn.Module, pairs: Mapping[str, tuple[str | None, str | None]]) -> None:
    for name, (found, expected) in pairs.items():
        if found != expected:
            raise InputError(
                f"this {type(model).__name__} was changed after it was built, and load would build "
                f"it as it was: {name} is {_short(found)}, and its configuration says "
                f"{_short(expected)}; save its state_dict() and build it yourself"
            )


def _traits(model: nn.Module) -> dict[str, str]:
    """The shapes of a model's weights, and of its rounds what no shape shows."""
    traits = {name: f"of shape {tuple(value.shape)}" for name, value in model.state_dict().items()}
    for name, part in model.named_modules():
        if isinstance(part, MessageRound):
            traits[f"the class of {name}"] = class_of_steps(part).__name__
            traits[f"the message of {name}"] = type(part.message_function).__name__
            traits[f"the aggregation of {name}"] = str(part.aggr_module)
            traits[f"the activation of {name}"] = str(part.activation)
            traits[f"the residual of {name}"] = str(part.residual)
        elif not any(part.children()) and not part.state_dict():
            traits[f"the part {name}"] = str(part)
    return traits


def _changed_settings(
    name: str, part: nn.Module, built: nn.Module
) -> dict[str, tuple[str | None, str | None]]:
    """The attributes of ``part`` that its constructor set, as they are and as it sets them.

    Those that it does not set are the caller's notes, and those with an underscore caches.
    """
    pairs: dict[str, tuple[str | None, str | None]] = {}
    for key, value in vars(built).items():
        now = vars(part).get(key, part._parameters.get(key))  # a number may have become learned
        if key in _NO_SETTINGS or key.startswith("_") or value is now:
            continue
        if isinstance(value, Tensor) and value.is_meta and isinstance(now, Tensor):
            pairs[f"{key} of {name}"] = _meta(now), _meta(value)
        elif (expected := _setting(value)) is not None:
            pairs[f"{key} of {name}"] = _setting(now) or f"a {type(now).__name__}", expected
    if isinstance(part, MessageFunction | Aggregation):
        name, now, expected = f"the forward of {name}", _forward(part), _forward(built)
        if now is not expected:
            pairs[name] = now.__qualname__, f"{expected.__qualname__} of its class"
    return pairs


def _forward(part: nn.Module) -> Any:
    """What computes a part, under whatever class a library derived or function it set."""
    forward = vars(part).get("forward", type(part).forward)
    return getattr(forward, "__func__", forward)


def _meta(value: Tensor) -> str:
    return f"a tensor of shape {tuple(value.shape)}"


def _setting(value: Any) -> str | None:
    """A number, text, function, tensor or collection of them as text; None for other objects."""
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return value.__name__
    if isinstance(value, Tensor):
        if value.is_meta or value.layout is not torch.strided:
            return None
        if value.numel() < 8:
            return repr(value.tolist())
        content = tensor_bytes(value)
        return f"{_meta(value)} ({zlib.crc32(content.numpy().tobytes()):08x})"
    if isinstance(value, Mapping):
        items = [item for pair in value.items() for item in pair]
    elif isinstance(value, list | tuple):
        items = [*value]
    else:
        return None
    each = [_setting(item) for item in items]
    known = [text for text in each if text is not None]
    return f"[{', '.join(known)}]" if len(known) == len(each) else None


def _short(text: str | None) -> str:
    if text is None:
        return "absent"
    return text if len(text) <= 80 else f"{text[:38]}...{text[-38:]} ({len(text)} characters)"
