"""The names that parts of a model had in 0.1.0, whose files still load.

There norm and activation stood beside a round, in a block of ``layer``, ``norm`` and ``act``; now
they are in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from mpnn_arch.models.blocks import FeedForward
from mpnn_arch.models.dense import Dense
from mpnn_arch.rounds import MessageRound


def renamed(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Every name of a part, parameter or buffer of ``model``, and what it is called today."""
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
    """Let ``model.load_state_dict`` take a state dict of 0.1.0."""
    model.register_load_state_dict_pre_hook(_rename_keys)


def _rename_keys(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    names = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
    for old, new in renamed(model, names).items():
        if old != new:
            state[prefix + new] = state.pop(prefix + old)


def _rules(model: nn.Module) -> list[tuple[str, str]]:
    """(old, new) prefixes, those of a part before those inside it."""
    rules = []
    for name, part in model.named_modules():
        if isinstance(part, MessageRound):
            rules.append((f"{name}.layer", name))
        elif isinstance(part, Dense) and part.norm is None:
            rules += [(f"{name}.{p}", f"{name}.layer.{p}") for p in ("weight", "bias")]
        elif isinstance(part, FeedForward):
            rules.append((f"{name}.2", f"{name}.1"))
    return rules
