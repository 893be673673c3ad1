"""Who watches or transforms a computation, and so what may run in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes, is_in_torch_dispatch_mode

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def is_plain(first: Tensor, second: Tensor) -> bool:
    """Whether these are eager, untransformed tensors, which is quick to tell: the usual case."""
    return (
        type(first) in _PLAIN_TYPES
        and type(second) in _PLAIN_TYPES
        and not torch.compiler.is_dynamo_compiling()  # other tracers hand in types of their own
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(first)
        and not first.is_meta
        and forward_ad._current_level < 0
    )


def is_traced(*tensors: Tensor) -> bool:
    """Whether registered operators must run, so that whoever watches sees them."""
    return (
        torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or any(t.is_meta or type(t) not in _PLAIN_TYPES for t in tensors)
    )


def in_functorch() -> bool:
    """Whether ``torch.func`` transforms us: vmap and jvp know plain torch and not our kernels."""
    if torch.compiler.is_compiling():  # tracers stand on the same stack, and know operators
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None


@contextmanager
def untraced() -> Iterator[None]:
    """Real tensors inside, whatever watches or transforms outside.

    Dispatch modes, ``torch.func`` and inference mode are suspended, so that what is created here is
    an ordinary tensor that anyone may use later.
    """
    with (
        _disable_current_modes(),
        temporarily_clear_interpreter_stack(),
        torch.inference_mode(False),
    ):
        yield
