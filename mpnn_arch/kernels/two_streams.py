"""Two products that do not depend on each other, side by side in a CUDA graph."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def both(
    first: Callable[[], Tensor], second: Callable[[], Tensor], like: Tensor
) -> tuple[Tensor, Tensor]:
    """``first()`` and ``second()``; on two streams while ``like``'s device is captured.

    In a graph the second stream is a branch, which costs nothing to launch: where neither product
    fills the device they run at once. Outside a capture switching streams would cost the host more
    than it gains, so they follow each other.

    The branch begins where the current stream is and ends before this returns. So what it reads
    may be freed afterwards, and memory of its own is used again only by a later branch, which waits
    for all that came before.
    """
    if not (like.is_cuda and torch.cuda.is_current_stream_capturing()):
        return first(), second()
    current, side = torch.cuda.current_stream(like.device), _side_stream(like.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        of_second = second()
    of_first = first()
    current.wait_stream(side)
    return of_first, of_second


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
