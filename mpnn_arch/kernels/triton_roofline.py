"""What a step on the triton backend launches, for the prediction of its time."""

from __future__ import annotations

from mpnn_arch.kernels.dispatch.roofline import (
    Kernel,
    Machine,
    RoundSizes,
    misaligned,
    padded,
    splits,
)
from mpnn_arch.kernels.triton_configs import num_tiles

# The host's work for a repeated launch, in operations of torch of 5 us with the driver's part: a
# fifth of Triton's dispatch of 21 and 37 us (experiments/benchmarks/launch_host.py), and that part.
_LINEAR_LAUNCH, _CONV_LAUNCH = 1.5, 2.0


def step_kernels(sizes: RoundSizes, machine: Machine) -> list[Kernel]:
    """One launch a product, of the default tiles: one node's share by a tile of the batch.

    A tile multiplies its padding too: up to a power of two of at least 16 rows, and to whole tiles
    of the list. Every node reads its input through the shared cache again, a few FLOP a byte.
    """
    columns, of_list = (128, 32) if sizes.is_convolution else (64, 32)
    return [
        _tiles(sizes, sizes.largest_out, sizes.fan_in, columns, of_list),
        _tiles(sizes, sizes.largest_in, sizes.fan_out, columns, of_list),
        _tiles(sizes, sizes.largest_out, sizes.fan_in, 64, 64, over_batch=True),
    ]


def _tiles(
    sizes: RoundSizes,
    share: int,
    length: float,
    block: int,
    of_list: int,
    *,
    over_batch: bool = False,
) -> Kernel:
    """Tiles of ``rows`` of a share by ``block`` of the batch, in steps of ``of_list``.

    ``over_batch``: of ``rows`` by ``of_list``, in steps of ``block``.
    """
    rows = min(max(1 << (share - 1).bit_length(), 16), 64)
    row_tiles, lists = num_tiles(share, rows), padded(length, of_list)
    products = float(sizes.nodes * row_tiles * rows * lists * sizes.kernel_numbers)
    products *= padded(sizes.columns, block)
    if over_batch:
        outer = of_list
        tiles = lists // of_list * sizes.kernel_numbers * splits(sizes.columns)
    else:
        outer, tiles = block, num_tiles(sizes.columns, block)
    even = share * sizes.nodes in (sizes.in_channels, sizes.out_channels)
    return Kernel(
        products=products,
        bytes=sizes.x_bytes + sizes.y_bytes + sizes.weight_bytes,
        cached=products * sizes.number_bytes * (1 / rows + 1 / outer),
        tile="edges conv" if sizes.is_convolution else "edges",
        tiles=sizes.nodes * row_tiles * tiles,
        ragged=not sizes.is_convolution and (not even or misaligned(share, sizes.number_bytes)),
        launches=_CONV_LAUNCH if sizes.is_convolution else _LINEAR_LAUNCH,
    )
