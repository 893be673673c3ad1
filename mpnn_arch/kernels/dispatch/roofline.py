"""A roofline of a round: predicted seconds where nothing can be timed.

A backend lists the kernels that a forward and backward pass launches (``step_kernels``). On a
machine, a kernel takes the longest of three times,

    max(2 * products / (efficiency * peak),  bytes / bandwidth,  cached bytes / cache bandwidth)

plus the pause between two kernels. The pass takes the sum over its kernels, or the host's time for
the launches where that is longer, as the host launches ahead of the device.

This is a model of specifications and assumptions (:mod:`mpnn_arch.kernels.dispatch.machines`). It
ranks backends whose times differ by a factor; it does not predict a time within some per cent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from mpnn_arch.kernels.plan import RoundPlan

# A batch, and pixels of a map, for a round whose tensors' sizes are unknown or may not be read.
NOMINAL_BATCH, NOMINAL_PIXELS = 128, 256
INDEX_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class RoundSizes:
    """The numbers on which a round's cost depends.

    Attributes:
        nodes: N.
        in_channels, out_channels: C_in and C_out.
        weights: channel pairs along the edges, so ``weights * taps`` numbers.
        largest_in, largest_out: the largest share of a node.
        samples: B.
        in_pixels, out_pixels: pixels of a map; 1 for vectors.
        taps: K * K of the kernels; 0 for vectors.
        number_bytes: bytes of one number.
        mode: the machine's peak that applies: ``"tf32"``, or the dtype's name.
    """

    nodes: int
    in_channels: int
    out_channels: int
    weights: int
    largest_in: int
    largest_out: int
    samples: int = NOMINAL_BATCH
    in_pixels: int = 1
    out_pixels: int = 1
    taps: int = 0
    number_bytes: int = 4
    mode: str = "float32"

    @classmethod
    def of(
        cls,
        plan: RoundPlan,
        dtype: torch.dtype,
        *,
        tf32: bool = False,
        samples: int = NOMINAL_BATCH,
        taps: int = 0,
        in_pixels: int = NOMINAL_PIXELS,
        out_pixels: int = NOMINAL_PIXELS,
    ) -> RoundSizes:
        """The sizes of a plan's round; pixels count only where ``taps`` is not 0."""
        return cls(
            nodes=plan.num_nodes,
            in_channels=plan.in_channels,
            out_channels=plan.out_channels,
            weights=plan.num_weights,
            largest_in=plan.largest_in,
            largest_out=plan.largest_out,
            samples=samples,
            in_pixels=in_pixels if taps else 1,
            out_pixels=out_pixels if taps else 1,
            taps=taps,
            number_bytes=dtype.itemsize,
            mode="tf32" if tf32 and dtype == torch.float32 else str(dtype).removeprefix("torch."),
        )

    @property
    def is_convolution(self) -> bool:
        """Whether the round is over maps."""
        return self.taps > 0

    @property
    def columns(self) -> int:
        """Vectors that each of the three products multiplies: samples times output pixels."""
        return self.samples * self.out_pixels

    @property
    def kernel_numbers(self) -> int:
        """Numbers of one weight: its taps, or 1."""
        return max(1, self.taps)

    @property
    def fan_in(self) -> float:
        """Input channels of a node's neighbours, the mean over output channels."""
        return self.weights / self.out_channels

    @property
    def fan_out(self) -> float:
        """Output channels of a node's neighbours, the mean over input channels."""
        return self.weights / self.in_channels

    @property
    def x_bytes(self) -> float:
        """Bytes of x, and of its gradient."""
        return float(self.samples * self.in_channels * self.in_pixels * self.number_bytes)

    @property
    def y_bytes(self) -> float:
        """Bytes of y, and of its gradient."""
        return float(self.samples * self.out_channels * self.out_pixels * self.number_bytes)

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights, and of their gradient."""
        return float(self.weights * self.kernel_numbers * self.number_bytes)

    @property
    def dense_bytes(self) -> float:
        """Bytes of the round's dense matrix."""
        entries = self.in_channels * self.out_channels
        return float(entries * self.kernel_numbers * self.number_bytes)

    @property
    def products(self) -> float:
        """Multiply-adds of one of the three products, along the edges only."""
        return float(self.columns) * self.weights * self.kernel_numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Machine:
    """The rates of one machine, compared and hashed by identity.

    Attributes:
        name: what it is.
        peak: mode -> floating-point operations per second, two for a multiply-add.
        bandwidth: bytes per second from and to memory.
        cache_bandwidth: bytes per second from the cache that all processors share.
        processors: that share the work of a kernel; one with fewer tiles leaves some idle.
        launch: seconds of the host for an operation of torch.
        pause: seconds on the device between the end of a kernel and the next one's work.
        efficiency: inner tile -> the share of ``peak`` that it reaches on full tiles.
        ragged: factor on that, for rows that do not begin at multiples of 16 bytes.
        dense_tiles: sides of the dense product's output tiles, the largest first.
    """

    name: str
    peak: Mapping[str, float]
    bandwidth: float
    cache_bandwidth: float = math.inf
    processors: int = 1
    launch: float = 0.0
    pause: float = 0.0
    efficiency: Mapping[str, float]
    ragged: float = 1.0
    dense_tiles: tuple[int, ...] = (128, 64)

    def peak_of(self, mode: str) -> float:
        """The peak for ``mode``; that of float32 for a dtype without one."""
        return self.peak.get(mode, self.peak["float32"])


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What one kernel does.

    Attributes:
        products: multiply-adds, with those on the padding of its tiles.
        bytes: from and to memory.
        cached: bytes from the shared cache.
        tile: its inner tile, a key of ``Machine.efficiency``; empty for copies.
        tiles: independent output tiles, each the work of one processor.
        ragged: whether its rows do not begin at multiples of 16 bytes.
        launches: the host's work, in operations of torch.
    """

    products: float = 0.0
    bytes: float = 0.0
    cached: float = 0.0
    tile: str = ""
    tiles: float = math.inf
    ragged: bool = False
    launches: float = 1.0

    def seconds(self, machine: Machine, mode: str) -> float:
        """On the device, with the pause before it."""
        busy = min(1.0, self.tiles / machine.processors)
        times = [self.bytes / machine.bandwidth, self.cached / (machine.cache_bandwidth * busy)]
        if self.products:
            efficiency = machine.efficiency[self.tile] * (machine.ragged if self.ragged else 1.0)
            times.append(2 * self.products / (machine.peak_of(mode) * efficiency * busy))
        return machine.pause + max(times)


def predicted(kernels: Iterable[Kernel], machine: Machine, mode: str) -> float:
    """Seconds of these kernels, one after the other: the device's time or the host's."""
    kernels = list(kernels)
    device = sum(kernel.seconds(machine, mode) for kernel in kernels)
    return max(device, machine.launch * sum(kernel.launches for kernel in kernels))


def padded(size: float, block: int) -> int:
    """``size`` rounded up to a multiple of ``block``."""
    return block * math.ceil(size / block)


def misaligned(numbers: int, number_bytes: int) -> bool:
    """Whether rows of this many numbers begin at other bytes than multiples of 16."""
    return numbers * number_bytes % 16 != 0


def splits(length: float) -> int:
    """Into how many parts of at least 1,024 a sum may be split, where tiles are few."""
    return max(1, int(length) // 1024)


def dense_product(
    machine: Machine, rows: int, columns: int, inner: int, sizes: RoundSizes, moved: float
) -> Kernel:
    """(rows, inner) times (inner, columns) by the machine's library.

    Args:
        machine: whose tiles it uses, the largest that gives every processor one.
        rows, columns, inner: of the product.
        sizes: of the round.
        moved: bytes from and to memory.
    """

    def tiles(side: int) -> int:
        return math.ceil(rows / side) * math.ceil(columns / side)

    side = next(
        (s for s in machine.dense_tiles if tiles(s) >= machine.processors), machine.dense_tiles[-1]
    )
    products = float(padded(rows, side)) * padded(columns, side) * inner
    widths = (sizes.in_channels, sizes.out_channels)
    return Kernel(
        products=products,
        bytes=moved,
        cached=products * sizes.number_bytes * 2 / side,
        tile="conv" if sizes.is_convolution else "dense",
        tiles=tiles(side) * splits(inner),
        ragged=not sizes.is_convolution
        and any(misaligned(width, sizes.number_bytes) for width in widths),
    )


def dense_products(sizes: RoundSizes, machine: Machine) -> list[Kernel]:
    """Forward product and both gradients with the round's dense matrix, which is already there."""
    moved = sizes.x_bytes + sizes.y_bytes + sizes.dense_bytes
    taps, columns = sizes.kernel_numbers, sizes.columns
    c_in, c_out = sizes.in_channels, sizes.out_channels
    return [
        dense_product(machine, columns, c_out, c_in * taps, sizes, moved),
        dense_product(machine, columns, c_in, c_out * taps, sizes, moved),
        dense_product(machine, c_out, c_in * taps, columns, sizes, moved),
    ]
