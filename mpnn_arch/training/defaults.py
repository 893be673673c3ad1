"""What a script has set in torch for all that follows, set aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def torch_as_started() -> Iterator[None]:
    """While entered, torch computes as in a new process: with gradients, in float32, on the CPU.

    A trial that is trained in the caller's process so has the bits that a worker gives it, in
    whatever the caller has entered: ``no_grad``, ``autocast``, another default dtype or device.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # a mode, which takes time at every call
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield
