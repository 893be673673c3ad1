"""Export and import of the backends that ``"auto"`` selected in a model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mpnn_arch.errors import InputError
from mpnn_arch.rounds.fused_round import FusedRound


def export_choices(model: nn.Module) -> dict[str, dict[str, str]]:
    """What ``"auto"`` selected in every round of ``model``, by name; JSON-serialisable.

    Store it with the weights and pass it to :func:`import_choices`: a resumed run then uses the
    same backends and is bit-identical.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds import export_choices
        >>> model = torch.nn.Sequential(RelationalLinear(graphs.ring(4, 2), 8, 8, backend="auto"))
        >>> export_choices(model)  # nothing was computed yet
        {}
    """
    return {
        name: module.backend_choices
        for name, module in model.named_modules()
        if isinstance(module, FusedRound) and module.backend_choices
    }


def import_choices(model: nn.Module, choices: Mapping[str, Mapping[str, str]]) -> None:
    """Set the choices of the rounds of ``model`` to those of :func:`export_choices`.

    Raises:
        InputError: a name that is not a round of the model, or an unknown backend.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds import export_choices, import_choices
        >>> first, second = (
        ...     torch.nn.Sequential(RelationalLinear(graphs.ring(4, 2), 8, 8)) for _ in range(2)
        ... )
        >>> out = first(torch.zeros(2, 8))
        >>> import_choices(second, export_choices(first))
        >>> export_choices(second) == export_choices(first)
        True
    """
    modules = dict(model.named_modules())
    for name, stored in choices.items():
        module = modules.get(name)
        if not isinstance(module, FusedRound):
            raise InputError(
                f"the stored backend choices name {name!r}, which is not a round of this model; "
                "load them into the model they were stored with"
            )
        module.backend_choices = dict(stored)
