"""Norms of a weight vector where the norm of a matrix is meant: refused, not computed."""

from __future__ import annotations

from typing import Any

from torch.nn.utils import parametrize

from mpnn_arch.errors import InputError

_OF_A_MATRIX = {"_SpectralNorm", "_WeightNorm", "_Orthogonal", "SpectralNorm", "WeightNorm"}


def refuse_vector_norms(part: Any, of: str, instead: str) -> None:
    """Refuse torch's ``spectral_norm`` and its like on a module whose weight is flat.

    Args:
        part: holds the entries of many matrices as its ``weight``.
        of: what it is, for the error message.
        instead: what to do.

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
                f"and {instead}"
            )
