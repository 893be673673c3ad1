"""Who watches or transforms a computation, and so what may run in it."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def is_traced(*tensors: Tensor) -> bool:
    """Whether registered operators must run, so that whoever watches sees them."""
    return (
        torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or any(t.is_meta or type(t) not in (Tensor, torch.nn.Parameter) for t in tensors)
    )


def in_functorch() -> bool:
    """Whether ``torch.func`` transforms us: vmap and jvp know plain torch and not our kernels."""
    if torch.compiler.is_compiling():  # tracers stand on the same stack, and know operators
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None
