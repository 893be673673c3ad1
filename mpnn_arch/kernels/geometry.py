"""The geometry of a convolution: kernel size, stride, padding, dilation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

from mpnn_arch.checks import LARGEST_COUNT as LARGEST
from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError, ShapeError

Pair = tuple[int, int]


class ConvGeometry(NamedTuple):
    """Kernel size, stride, padding and dilation of a convolution, (height, width) each.

    :meth:`of` validates user input; the constructor does not.

    Example:
        >>> from mpnn_arch.kernels.geometry import ConvGeometry
        >>> geometry = ConvGeometry.of(3, stride=2, padding=1, dilation=1)
        >>> geometry.output_size((32, 32))
        (16, 16)
    """

    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @classmethod
    def of(
        cls,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
    ) -> ConvGeometry:
        """The geometry of ``nn.Conv2d``'s arguments: one number or (height, width) each.

        Args:
            kernel_size: at least 1.
            stride: at least 1.
            padding: at least 0; or ``"valid"`` for none, ``"same"`` for maps that keep their size
                (stride 1, and dilation * (kernel_size - 1) even).
            dilation: at least 1.

        Raises:
            InputError: not integers in these ranges, or a padding that is not possible.
        """
        kernel = _pair("kernel_size", kernel_size, 1)
        steps, spread = _pair("stride", stride, 1), _pair("dilation", dilation, 1)
        if not isinstance(padding, str):
            return cls(kernel, steps, _pair("padding", padding, 0), spread)
        if padding == "valid":
            return cls(kernel, steps, (0, 0), spread)
        reach = [d * (k - 1) for d, k in zip(spread, kernel, strict=True)]
        if padding == "same" and steps == (1, 1) and not any(r % 2 for r in reach):
            return cls(kernel, steps, (reach[0] // 2, reach[1] // 2), spread)
        if padding != "same":
            raise InputError(f"there is no padding={padding!r}; give numbers, 'valid' or 'same'")
        if steps != (1, 1):
            raise InputError(
                f"padding='same' is not possible with stride={steps}, as it keeps the size of "
                "maps; use stride 1, or give numbers"
            )
        raise InputError(
            f"padding='same' of kernel_size={kernel} and dilation={spread} is uneven, which "
            "RelationalConv2d pads, and no message function by itself: use that, or an odd kernel"
        )

    @property
    def area(self) -> int:
        """Weights of one kernel."""
        return math.prod(self.kernel_size)

    @property
    def is_pointwise(self) -> bool:
        """Whether every output pixel depends on the same input pixel only."""
        return (self.kernel_size, self.stride, self.padding) == ((1, 1), (1, 1), (0, 0))

    def output_size(self, size: Sequence[Any]) -> tuple[Any, Any]:
        """(H', W') for maps of (H, W), as of ``nn.Conv2d``; below 1 where the kernel does not fit.

        Sizes may be symbolic integers of a traced program.
        """
        height, width = (self._span(size, i) // self.stride[i] + 1 for i in (0, 1))
        return height, width

    def checked_output_size(self, size: Sequence[int]) -> Pair:
        """:meth:`output_size`, after checking that the kernel fits the maps.

        Raises:
            ShapeError: empty maps, or a dilated kernel larger than the padded map.
            InputError: a padded map of more than 2^31 - 1 pixels.
        """
        if min(size) < 1:
            raise ShapeError(f"maps of {tuple(size)} are empty; give H and W of at least 1")
        padded = [length + 2 * pad for length, pad in zip(size, self.padding, strict=True)]
        if math.prod(padded) > LARGEST:
            raise InputError(
                f"a map of {tuple(size)} with padding {self.padding} has {math.prod(padded)} "
                f"pixels, and {LARGEST} at most are supported; pad less, or split the map"
            )
        output = self.output_size(size)
        if min(output) < 1:
            raise ShapeError(
                f"a {self.kernel_size} kernel of dilation {self.dilation} does not fit into a map "
                f"of {tuple(size)} with padding {self.padding}; pad more, or use a smaller kernel"
            )
        return output

    def within(self, size: Sequence[int]) -> ConvGeometry:
        """The same convolution of maps of (H, W), with strides that end within the padded map.

        A stride past its end has no effect, but libraries compute addresses with it.
        """
        height, width = (min(self.stride[i], max(self._span(size, i), 0) + 1) for i in (0, 1))
        return self if self.stride == (height, width) else self._replace(stride=(height, width))

    def _span(self, size: Sequence[int], i: int) -> int:
        """Positions of the kernel along dimension ``i``, less one."""
        reach = self.dilation[i] * (self.kernel_size[i] - 1)
        return size[i] + 2 * self.padding[i] - reach - 1


POINTWISE = ConvGeometry((1, 1))


def _pair(name: str, value: int | Sequence[int], least: int) -> Pair:
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in given)
    if len(given) not in (1, 2) or not whole or not all(least <= n <= LARGEST for n in given):
        raise InputError(
            f"{name} must be one integer or two, (height, width), from {least} to {LARGEST}, not "
            f"{shown(value)}"
        )
    return int(given[0]), int(given[-1])
