"""Modules that torch or another library has wrapped, hooked or given another ``forward``."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from mpnn_arch.kernels.dispatch.tracing import has_own_forward
from mpnn_arch.rounds.messages import MessageFunction

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


def must_be_called(function: nn.Module) -> str | None:
    """Why a round may not take the weights of its message function without calling it.

    Libraries that shard or offload weights fetch them for the call of the module that has them: by
    hooks (FSDP2, DeepSpeed), in a module around it (FSDP) or in another ``forward`` (accelerate).
    Torch prunes by a hook, too, which :meth:`MessageFunction.current_weight` calls.

    Returns:
        None if it may.
    """
    if isinstance(function, MessageFunction) and not (
        "forward" in function.__dict__
        or function._forward_hooks
        or function._forward_pre_hooks
        or function._backward_hooks
        or function._backward_pre_hooks
    ):
        return None  # the usual case, without a call: every call of a round asks
    function = unwrapped(function)
    if not isinstance(function, MessageFunction):
        return f"the message function is in a {type(function).__name__}"
    if "forward" in function.__dict__ and has_own_forward(function):
        return "the message function's forward was replaced"
    hooks = [
        *function._forward_hooks.values(),
        *function._forward_pre_hooks.values(),
        *function._backward_hooks.values(),
        *function._backward_pre_hooks.values(),
    ]
    if all(isinstance(hook, BasePruningMethod) for hook in hooks):
        return None
    return "a hook on calls of the message function is registered"


def aggregation_must_be_called(aggr: nn.Module) -> str | None:
    """Why a round may not sum messages without calling its aggregation; None if it may."""
    if aggr._forward_hooks or aggr._forward_pre_hooks:
        return "a hook on calls of the aggregation is registered"
    return None
