"""Submodule names of 0.1.0, mapped to the current ones so that its files still load.

In 0.1.0 norm and activation were siblings of a round, in a block of ``layer``, ``norm`` and
``act``; now they are part of the round.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from mpnn_arch.models.blocks import FeedForward
from mpnn_arch.models.dense import Dense
from mpnn_arch.rounds import MessageRound


def renamed(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Map names of submodules, parameters or buffers of ``model`` to their current names."""
    rules = _rules(model)
    found = {}
    for name in names:
        current = name
        for old, new in rules:
            if current == old or current.startswith(f"{old}."):
                current = new + current[len(old) :]
        found[name] = current
    return found


def accept_old_names(model: nn.Module) -> None:
    """Make ``model.load_state_dict`` accept a state dict of 0.1.0."""
    model.register_load_state_dict_pre_hook(_rename_keys)


def _rename_keys(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    names = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
    for old, new in renamed(model, names).items():
        if old != new:
            state[prefix + new] = state.pop(prefix + old)


def _rules(model: nn.Module) -> list[tuple[str, str]]:
    """(old, new) prefixes, outer modules before inner ones."""
    rules = []
    for name, part in model.named_modules():
        if isinstance(part, MessageRound):
            rules.append((f"{name}.layer", name))
        elif isinstance(part, Dense) and part.norm is None:
            rules += [(f"{name}.{p}", f"{name}.layer.{p}") for p in ("weight", "bias")]
        elif isinstance(part, FeedForward):
            rules.append((f"{name}.2", f"{name}.1"))
    return rules
