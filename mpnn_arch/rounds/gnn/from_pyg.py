"""What every ``from_pyg`` shares: what has no round is refused by name, the rest taken over."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from mpnn_arch.errors import InputError
from mpnn_arch.rounds.given_parts import put_aggregation

L = TypeVar("L", bound=nn.Module)


def check_layer(layer: Any, kind: type[nn.Module], node_dim: int = -2) -> None:
    """Refuse a layer with a part that its round would not take over.

    Raises:
        InputError: another class, a non-default ``node_dim``, ``decomposed_layers`` or missing
            ``aggr``, parametrised or uninitialised weights, hooks, or an explanation in progress.
    """
    name = kind.__name__
    if type(layer) is not kind:
        raise InputError(
            f"from_pyg converts a {name}, this is a {type(layer).__name__}; use the round of that "
            "name"
        )
    refuse(layer, node_dim=node_dim, decomposed_layers=1)
    if layer.aggr_module is None:
        raise InputError(f"{name} with aggr=None has no round; give it an aggregation")
    if layer.explain:
        raise InputError(
            f"this {name} is being explained; clear its masks, convert it, and explain the round"
        )
    hooked = [key for key, hooks in vars(layer).items() if key.endswith("_hooks") and hooks]
    if hooked:
        raise InputError(
            f"this {name} has hooks ({', '.join(hooked)}), which are not taken over; remove them "
            "and register them on the round"
        )
    network = getattr(layer, "nn", None)
    shared = set(network.modules()) if isinstance(network, nn.Module) else set()
    for part in set(layer.modules()) - shared:
        if is_parametrized(part) or (part._forward_pre_hooks and _hooked_weight(part)):
            raise InputError(
                f"a weight of this {name} is parametrised; remove the parametrisation, convert, "
                "and register it on the round"
            )
        if any(is_lazy(parameter) for parameter in part.parameters(recurse=False)):
            raise InputError(
                f"the channels of this {name} are not known yet; call it once, or create the round "
                "with in_channels=-1"
            )


def refuse(layer: Any, **expected: Any) -> None:
    """Refuse a layer with other arguments than these.

    Raises:
        InputError: such an argument.
    """
    for argument, value in expected.items():
        given = getattr(layer, argument)
        if given != value:
            raise InputError(
                f"{type(layer).__name__} with {argument}={given!r} has no round; only "
                f"{argument}={value!r} is converted"
            )


def take_over(converted: L, layer: Any, copied: dict[str, Tensor | None]) -> L:
    """``converted`` with the state of PyG's ``layer``.

    Parameters keep dtype, device and ``requires_grad``, the aggregation its state, and all of it
    whether it is in training.

    Args:
        converted: the round.
        layer: PyG's.
        copied: the layer's parameters by the round's names.

    Raises:
        InputError: an aggregation that widens its messages, where the layer has no use for that.
    """
    round_: Any = converted
    shared = set(layer.modules())
    for module in converted.modules():
        if module not in shared:
            module.training = layer.training
    if round_.projection is not None:
        raise InputError(
            f"{type(layer).__name__} with aggr={layer.aggr!r} widens its messages, which only "
            "SAGE reads; use another aggregation, or mode='sum' in place of 'cat'"
        )
    put_aggregation(round_, copy.deepcopy(layer.aggr_module), layer.aggr)
    fill(converted, copied)
    parameters = dict(converted.named_parameters())
    for name, value in copied.items():
        if value is not None:
            parameters[name].requires_grad_(value.requires_grad)
    expected = {name for name, value in copied.items() if value is not None}
    for name, parameter in parameters.items():
        if name not in expected and not name.startswith(("aggr_module.", "network.")):
            raise AssertionError(f"{name} of shape {tuple(parameter.shape)} was not taken over")
    return converted


def fill(layer: L, copied: dict[str, Tensor | None]) -> L:
    """``layer`` with these parameters copied in, with their dtype and on their device."""
    parameters = dict(layer.named_parameters())
    with torch.no_grad():
        for name, value in copied.items():
            if value is None:
                continue
            own = parameters[name]
            if own.shape != value.shape:
                raise InputError(
                    f"{name} is of shape {tuple(own.shape)}, the weights for it of "
                    f"{tuple(value.shape)}: the layer was changed after it was created"
                )
            own.data = value.detach().clone()
            if name.startswith("message_function."):
                layer.message_function.to(value.device)  # type: ignore[operator,union-attr]
    return layer


def _hooked_weight(module: nn.Module) -> bool:
    """Whether one of torch's older ``spectral_norm``, ``weight_norm`` or prunings acts on it."""
    return any(
        hasattr(hook, "name") or hasattr(hook, "_tensor_name")
        for hook in module._forward_pre_hooks.values()
    )
