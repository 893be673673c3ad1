"""Message functions that other libraries have wrapped, hooked or given another ``forward``."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from mpnn_arch.kernels.dispatch.tracing import has_own_forward
from mpnn_arch.rounds.messages import MessageFunction
from mpnn_arch.rounds.unwrapped import unwrapped


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
