"""The bytes of a tensor, for digests and comparisons."""

from __future__ import annotations

import torch
from torch import Tensor


def tensor_bytes(tensor: Tensor) -> Tensor:
    """The numbers of ``tensor`` as bytes, in the order of its places: (bytes,), uint8, on the CPU.

    Any strides will do. Torch calls a tensor contiguous whatever the stride of an axis of one
    place, as that of images of one pixel, but views as bytes only what ends in a stride of 1.
    """
    dense = tensor.detach().cpu().contiguous()
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
