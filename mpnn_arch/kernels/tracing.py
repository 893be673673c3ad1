"""Who watches or transforms a computation, and so what may run in it."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def is_traced(*tensors: Tensor) -> bool:
    """Whether registered operators must run, so that whoever watches sees them."""
    return (
        torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or any(t.is_meta or type(t) not in (Tensor, torch.nn.Parameter) for t in tensors)
    )


_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def is_plain(first: Tensor, second: Tensor) -> bool:
    """Whether these are numbers in memory and nobody watches: the usual case, told quickly."""
    return (
        type(first) in _PLAIN_TYPES
        and type(second) in _PLAIN_TYPES
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(first)
        and not first.is_meta
        and forward_ad._current_level < 0
    )


def in_functorch() -> bool:
    """Whether ``torch.func`` transforms us: vmap and jvp know plain torch and not our kernels."""
    if torch.compiler.is_compiling():  # tracers stand on the same stack, and know operators
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None
