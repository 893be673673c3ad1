"""Which layers stay dense on request."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mpnn_arch.checks import as_list
from mpnn_arch.errors import InputError


def skipped_layers(module: nn.Module, dense: Sequence[str], skip: Sequence[str]) -> dict[str, str]:
    """The names in ``dense`` that ``skip`` means, and the entry of ``skip`` that means each.

    ``"first"`` and ``"last"`` are the layers that meet the data: the paper leaves input and output
    layers dense. In a model whose first weights are an ``nn.Embedding``, that is the input layer,
    and the first dense layer belongs to a block; likewise the last dense layer of a model without a
    head, if it is inside an ``nn.ModuleList`` of blocks.

    Raises:
        InputError: a name that the module does not have.
    """
    if isinstance(skip, str):
        skip = (skip,)
    skip = as_list("skip", skip)
    parts = dict(module.named_modules())
    skipped: dict[str, str] = {}
    for name in skip:
        if name in ("first", "last"):
            # A single layer is neither first nor last of anything.
            if len(dense) > 1:
                found = _ends(parts, dense, first=name == "first")
                skipped |= dict.fromkeys(found, name)
        elif name in parts:
            skipped |= {d: name for d in dense if d == name or d.startswith(f"{name}.")}
        else:
            raise InputError(
                f"{type(module).__name__} has no part {name!r} to skip; give 'first', 'last' or a "
                f"path such as {dense[0]!r}"
            )
    return skipped


def _ends(parts: dict[str, nn.Module], dense: Sequence[str], *, first: bool) -> set[str]:
    """The input layer or the output layer, if it is dense."""
    name = dense[0 if first else -1]
    names = list(parts)
    takes_tokens = any(isinstance(parts[n], nn.Embedding) for n in names[: names.index(dense[0])])
    if takes_tokens and (first or _in_a_block(parts, name)):
        return set()
    return {name}


def _in_a_block(parts: dict[str, nn.Module], name: str) -> bool:
    above = [name[:i] for i, letter in enumerate(name) if letter == "."]
    return any(isinstance(parts[path], nn.ModuleList) for path in above)
