"""Norms of a weight vector where the norm of a matrix is meant: refused, not computed."""

from __future__ import annotations

from typing import Any

from torch.nn.utils import parametrize

from mpnn_arch.errors import InputError

# The classes of torch's parametrisations and of its former hooks, and how they are applied.
_OF_A_MATRIX = {
    "_SpectralNorm": "spectral_norm",
    "_WeightNorm": "weight_norm",
    "_Orthogonal": "orthogonal",
    "SpectralNorm": "spectral_norm",
    "WeightNorm": "weight_norm",
}


def refuse_vector_norms(part: Any, of: str, instead: str) -> None:
    """Refuse torch's ``spectral_norm`` and its like on a module whose weight is flat.

    Args:
        part: holds the entries of many matrices as its ``weight``.
        of: what it is, for the error message.
        instead: what to do; ``{}`` stands for the norm's function.

    Raises:
        InputError: one is applied to the flat weight, which it would take for a vector.
    """
    applied: list[Any] = list(part._forward_pre_hooks.values())
    if parametrize.is_parametrized(part, "weight"):
        applied += part.parametrizations["weight"]
    for norm in applied:
        if (name := type(norm).__name__) in _OF_A_MATRIX:
            raise InputError(
                f"{name.strip('_')} would take the flat weight of this {of} for a vector; undo it, "
                f"and {instead.format(_OF_A_MATRIX[name])}"
            )
