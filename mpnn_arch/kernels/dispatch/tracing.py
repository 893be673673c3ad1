"""Detecting tracing, dispatch modes and transforms, and suspending them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad
from torch.nn.modules import module as of_torch
from torch.utils._python_dispatch import _disable_current_modes, is_in_torch_dispatch_mode

_peek_transforms = torch._C._functorch.peek_interpreter_stack
_set_tracing_state = getattr(torch._C, "_set_tracing_state", None)
_is_batched = torch._C._functorch.is_legacy_batchedtensor
PLAIN_TYPES = (Tensor, torch.nn.Parameter)
# Those of all modules, as `nn.Module` reads them in every version of torch.
_GLOBAL_HOOKS = (
    of_torch._global_forward_hooks,
    of_torch._global_forward_pre_hooks,
    of_torch._global_backward_hooks,
    of_torch._global_backward_pre_hooks,
)


def is_plain(first: Tensor, second: Tensor) -> bool:
    """Whether these are eager, untransformed tensors: the usual case, and a fast check."""
    return (
        type(first) in PLAIN_TYPES
        and type(second) in PLAIN_TYPES
        and not torch.compiler.is_dynamo_compiling()  # other tracers hand in types of their own
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._get_tracing_state() is None  # torch.jit.trace
        and _peek_transforms() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(first)
        and not first.is_meta
        and forward_ad._current_level < 0
    )


def is_traced(*tensors: Tensor) -> bool:
    """Whether registered operators must run, so that a tracer or dispatch mode sees them."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None  # torch.jit.trace
        or is_in_torch_dispatch_mode()
        or any(t.is_meta or type(t) not in PLAIN_TYPES for t in tensors)
    )


def jit_tracing() -> bool:
    """Whether ``torch.jit.trace`` runs, where reading a size fixes it in the program, and warns."""
    return torch._C._get_tracing_state() is not None and not torch.compiler.is_compiling()


def plain_shape(tensor: Tensor) -> torch.Size:
    """The tensor's shape for a check: integers in ``torch.jit.trace`` too, where comparing warns.

    For no number that goes into the program: it would be fixed there.
    """
    if not jit_tracing() or _set_tracing_state is None:
        return tensor.shape
    state = torch._C._get_tracing_state()
    _set_tracing_state(None)
    try:
        return tensor.shape
    finally:
        _set_tracing_state(state)


def in_functorch() -> bool:
    """Whether a ``torch.func`` transform or forward-mode AD is active.

    Our kernels support neither vmap nor jvp; the torch operations of ``masked`` do.
    """
    # Other tracers use the same stack, and support operators; of a function that dynamo compiles it
    # holds the transforms inside.
    if torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling():
        return False
    return _is_transforming()


@torch.compiler.assume_constant_result
def _is_transforming() -> bool:
    return _peek_transforms() is not None or forward_ad._current_level >= 0


def is_transformed(tensor: Tensor) -> bool:
    """Whether only torch operations support ``tensor``: :func:`in_functorch`, or it is batched.

    ``is_grads_batched`` and ``vectorize=True`` run a backward pass under an older vmap, which only
    its tensors show. A fast check: every backward pass makes it.
    """
    return (
        _peek_transforms() is not None or forward_ad._current_level >= 0 or _is_batched(tensor)
    ) and not torch.compiler.is_compiling()


def has_own_forward(module: torch.nn.Module) -> bool:
    """Whether ``forward`` was replaced on the object, as by libraries that fetch its weights.

    One that was put back, as they do in the end, is the class's own.
    """
    own = module.__dict__.get("forward")
    return own is not None and getattr(own, "__func__", None) is not type(module).forward


def is_watched(module: nn.Module) -> bool:
    """Whether something waits for the module's own call, or stands in for it."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or any(_GLOBAL_HOOKS)
        or "forward" in module.__dict__
        or module._compiled_call_impl is not None
    )


@contextmanager
def untraced() -> Iterator[None]:
    """Suspend dispatch modes, ``torch.func`` transforms and inference mode.

    Tensors created inside are ordinary ones that can be used anywhere later.
    """
    with (
        _disable_current_modes(),
        temporarily_clear_interpreter_stack(),
        torch.inference_mode(False),
    ):
        yield
