"""The layers of a module that own weights."""

from __future__ import annotations

from torch import nn

from mpnn_arch.models.relationalize.kinds import Kind, kind_of
from mpnn_arch.rounds import MessageRound


def layers_with_weights(module: nn.Module) -> dict[str, tuple[nn.Module, Kind | None]]:
    """The layers that own weights, with their kind; parts of a dense layer or a round are its own.

    A round that the module has already is left alone.
    """
    found: dict[str, tuple[nn.Module, Kind | None]] = {}
    inside: set[int] = set()
    for name, part in module.named_modules():
        if id(part) in inside:
            continue
        kind = kind_of(part)
        if kind is not None or isinstance(part, MessageRound):
            inside.update(id(inner) for inner in part.modules())
        if kind is not None or (
            not isinstance(part, MessageRound) and any(True for _ in part.parameters(recurse=False))
        ):
            found[name] = (part, kind)
    return found
