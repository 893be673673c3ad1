"""Modules without the wrappers that torch puts around them to save memory, or to compile them."""

from __future__ import annotations

from torch import nn

# What torch's wrappers for activation checkpointing and offloading call the module in them.
_INSIDE = "_checkpoint_wrapped_module"


def unwrapped(part: nn.Module) -> nn.Module:
    """The part in torch's wrappers that save activations' memory: they change no number."""
    while (inside := part._modules.get(_INSIDE)) is not None:
        part = inside
    return part


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that ``torch.compile(module)`` wraps; any other as it is."""
    inside = getattr(model, "_modules", {}).get("_orig_mod")  # what is no module is as it is
    return model if inside is None else inside
