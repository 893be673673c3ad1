"""The source of randomness that a caller hands in."""

from __future__ import annotations

from typing import Any

import torch

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError


def check_generator(generator: Any) -> None:
    """Refuse what is no ``torch.Generator`` of the CPU.

    Everything is drawn on the CPU, so that a seed gives the same numbers on every device.

    Raises:
        InputError: it is something else, or a generator of a GPU.
    """
    if not isinstance(generator, torch.Generator):
        raise InputError(
            f"a generator is a torch.Generator, not {shown(generator)}; give "
            "torch.Generator().manual_seed(0)"
        )
    if generator.device.type != "cpu":
        raise InputError(
            f"the generator is on {generator.device}, and numbers are drawn on the CPU, so that "
            "every device gets the same; give torch.Generator().manual_seed(0)"
        )
