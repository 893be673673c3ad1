"""The window of a convolution, and which of its taps reach which pixels."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from mpnn_arch.errors import InputError

IntPair = int | Sequence[int]


class Window:
    """A convolution's kernel size, stride, padding and dilation, each (height, width).

    Raises:
        InputError: one of them is not one number or two, or is too small.
    """

    def __init__(
        self, kernel: IntPair, stride: IntPair, padding: IntPair, dilation: IntPair
    ) -> None:
        self.kernel = _pair("kernel_size", kernel, 1)
        self.stride = _pair("stride", stride, 1)
        self.padding = _pair("padding", padding, 0)
        self.dilation = _pair("dilation", dilation, 1)
        self.taps = self.kernel[0] * self.kernel[1]
        self.key = (self.kernel, self.stride, self.padding, self.dilation)

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """(H', W') for an image of (H, W).

        Raises:
            InputError: the window does not fit the image.
        """
        height, width = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1)
            // self.stride[i]
            + 1
            for i in (0, 1)
        )
        if min(height, width) < 1:
            raise InputError(
                f"a kernel of {self.kernel}, dilated by {self.dilation}, does not fit an image of "
                f"{tuple(size)} padded by {self.padding}: use a larger image or more padding"
            )
        return height, width

    def constants(self) -> dict[str, int]:
        """The numbers by the names that the kernels give them."""
        return {
            f"{name}_{side}": pair[i]
            for name, pair in (
                ("KERNEL", self.kernel),
                ("STRIDE", self.stride),
                ("PADDING", self.padding),
                ("DILATION", self.dilation),
            )
            for i, side in enumerate(("HEIGHT", "WIDTH"))
        }


def taps(window: Window, transposed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each phase the taps that reach its pixels, and how many they are: (P, taps) and (P,).

    Transposed, a phase is a row and a column modulo the stride; forward there is one, with every
    tap.
    """
    return _taps(*window.key, transposed, device)


@functools.lru_cache(maxsize=256)
def _taps(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    transposed: bool,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    rows = range(stride[0] if transposed else 1)
    columns = range(stride[1] if transposed else 1)

    def reaches(place: int, tap: int, axis: int) -> bool:
        return not transposed or (place + padding[axis] - tap * dilation[axis]) % stride[axis] == 0

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
        torch.tensor(padded, dtype=torch.int32, device=device),
        torch.tensor([len(reach) for reach in lists], dtype=torch.int32, device=device),
    )


def _pair(name: str, value: IntPair, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < least:
        raise InputError(f"{name} is {value}; give one number or two, each at least {least}")
    return int(pair[0]), int(pair[1])
