"""Which taps of a convolution reach which pixels."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from mpnn_arch.kernels.capture import upload
from mpnn_arch.kernels.geometry import ConvGeometry


def constants_of(geometry: ConvGeometry) -> dict[str, int]:
    """The geometry as the kernels' constants."""
    names = ("KERNEL", "STRIDE", "PADDING", "DILATION")
    return {
        f"{name}_{side}": pair[i]
        for name, pair in zip(names, geometry, strict=True)
        for i, side in enumerate(("HEIGHT", "WIDTH"))
    }


@functools.lru_cache(maxsize=256)
def taps(geometry: ConvGeometry, transposed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each phase the taps that reach its pixels, and their number: (P, taps) and (P,).

    Transposed, a phase is a row and a column modulo the stride; forward there is one, with every
    tap.
    """
    kernel, stride, padding, dilation = geometry
    rows = range(stride[0] if transposed else 1)
    columns = range(stride[1] if transposed else 1)

    def reaches(pixel: int, tap: int, axis: int) -> bool:
        return not transposed or (pixel + padding[axis] - tap * dilation[axis]) % stride[axis] == 0

    lists = [
        [
            i * kernel[1] + j
            for i in range(kernel[0])
            for j in range(kernel[1])
            if reaches(row, i, 0) and reaches(column, j, 1)
        ]
        for row in rows
        for column in columns
    ]
    padded = [reach + [0] * (kernel[0] * kernel[1] - len(reach)) for reach in lists]
    return (
        upload(np.array(padded, dtype=np.int32), device),
        upload(np.array([len(reach) for reach in lists], dtype=np.int32), device),
    )
