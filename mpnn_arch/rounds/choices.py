"""The backends that ``"auto"`` selected in a model: kept beside its weights, and given back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mpnn_arch.errors import InputError
from mpnn_arch.rounds.fused_round import FusedRound


def export_choices(model: nn.Module) -> dict[str, dict[str, str]]:
    """What ``"auto"`` selected in every round of ``model``, JSON-able, by the round's name.

    Keep it beside the weights and give it back to :func:`import_choices`: the run that goes on
    uses the same backends, to the same bits.
    """
    return {
        name: module.backend_choices
        for name, module in model.named_modules()
        if isinstance(module, FusedRound) and module.backend_choices
    }


def import_choices(model: nn.Module, choices: Mapping[str, Mapping[str, str]]) -> None:
    """Give the rounds of ``model`` the choices that :func:`export_choices` read.

    Raises:
        InputError: a name that is no round of the model, or an unknown backend.
    """
    modules = dict(model.named_modules())
    for name, kept in choices.items():
        module = modules.get(name)
        if not isinstance(module, FusedRound):
            raise InputError(
                f"the stored backend choices name {name!r}, which is no round of this model; "
                "load them into the model they were stored with"
            )
        module.backend_choices = dict(kept)
