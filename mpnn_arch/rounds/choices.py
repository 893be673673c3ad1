"""Export and import of the backends that ``"auto"`` selected in a model's layers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mpnn_arch.checks import check_kind
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.picker import Picker


def export_choices(model: nn.Module) -> dict[str, dict[str, str]]:
    """What ``"auto"`` selected in every layer of ``model``, by name; JSON-serialisable.

    The layers are the rounds, and the dense linear layers of a model of :mod:`mpnn_arch.models`.
    Store it with the weights and pass it to :func:`import_choices`: a resumed run then uses the
    same backends and is bit-identical.

    Raises:
        InputError: no model.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds import export_choices
        >>> model = torch.nn.Sequential(RelationalLinear(graphs.ring(4, 2), 8, 8, backend="auto"))
        >>> export_choices(model)  # nothing was computed yet
        {}
    """
    check_kind("model", model, nn.Module, "give one")
    pickers = {name: _picker(module) for name, module in model.named_modules()}
    return {name: p.choices for name, p in pickers.items() if p is not None and p.choices}


def import_choices(model: nn.Module, choices: Mapping[str, Mapping[str, str]]) -> None:
    """Set the choices of the layers of ``model`` to those of :func:`export_choices`.

    Raises:
        InputError: no model, a name of nothing in the model that selects a backend, or an unknown
            backend.

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
    check_kind("model", model, nn.Module, "give one")
    check_kind("choices", choices, Mapping, "give what export_choices returned")
    modules = dict(model.named_modules())
    for name, stored in choices.items():
        picker = _picker(modules.get(name))
        if picker is None:
            raise InputError(
                f"the stored backend choices name {name!r}, which is not a round of this model "
                "nor a dense layer that selects; load them into the model they were stored with"
            )
        picker.choices = dict(stored)


def _picker(module: nn.Module | None) -> Picker | None:
    picker = None if module is None else vars(module).get("picker")
    return picker if isinstance(picker, Picker) else None
