"""Norms of a weight vector where the norm of a matrix is meant: refused, not computed."""

from __future__ import annotations

from typing import Any

from torch.nn.utils import parametrize

from mpnn_arch.errors import InputError

_OF_A_MATRIX = {"_SpectralNorm", "_WeightNorm", "_Orthogonal", "SpectralNorm", "WeightNorm"}


def refuse_vector_norms(function: Any) -> None:
    """Refuse torch's ``spectral_norm`` and its like on a message function itself.

    Raises:
        InputError: one is applied to the flat weight, which it would take for a vector.
    """
    applied: list[Any] = list(function._forward_pre_hooks.values())
    if parametrize.is_parametrized(function, "weight"):
        applied += function.parametrizations["weight"]
    for part in applied:
        if type(part).__name__ in _OF_A_MATRIX:
            raise InputError(
                f"{type(part).__name__.strip('_')} would take the flat weight of this round for a "
                "vector; undo it, and use mpnn_arch.rounds.on_matrix(layer, spectral_norm), which "
                "applies it to the round's matrix"
            )
