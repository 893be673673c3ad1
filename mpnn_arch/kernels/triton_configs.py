"""Candidate tile sizes of a trial; the first of each list is the default without a trial.

Where a product runs without matrix instructions (float32 in IEEE precision), each thread keeps the
operands of a whole tile's sum in registers: such tiles sum over :data:`SHORT` numbers at a time,
as longer ones spill kilobytes of registers a thread.

A gradient with respect to the weights sums over the batch, while channels are contiguous. From
sm_90 on, four warps multiply a tile of :data:`GROUP_ROWS` rows as a group, whose instructions take
TF32 operands only with the summed dimension contiguous: the compiler then copies 4 bytes at a time.
Smaller tiles are multiplied warp by warp and copied as they lie, 16 bytes at a time where shares
are padded, so padded shares are tried with these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.triton_tables import Walk

# The kernel's own constants, and ``nodes``, how many a program processes in sequence, ``pack``,
# whether its input is first copied to channel-major layout, and ``pad``, how many nodes each share
# padded to 16 bytes belongs to, 0 where shares are not padded.
Config = dict[str, int]

SHORT = 16
PADDED_BYTES = 16  # a share is padded to a multiple of them
GROUP_ROWS = 64


def num_tiles(size: int, block: int) -> int:
    """Tiles of ``block`` that cover ``size``."""
    return -(-size // block)


def kernel_options(config: Config) -> Config:
    """The kernel's own constants in ``config``."""
    return {name: value for name, value in config.items() if name not in ("nodes", "pack", "pad")}


def conv_layout(
    config: Config, x: Tensor, per_tap: int, geometry: ConvGeometry
) -> tuple[Config, int]:
    """The kernels' constants for the layout of weights and channels, and the stride of taps.

    Kernels are contiguous, or with padded shares the weights of each tap, ``per_tap`` of them.
    """
    if config["pad"]:
        return {"WEIGHT_STRIDE": 1, "GRANULE": PADDED_BYTES // x.itemsize}, per_tap
    return {"WEIGHT_STRIDE": geometry.area, "GRANULE": 1}, 1


def channel_major(x: Tensor) -> Tensor:
    """``x`` (B, C) in channel-major layout: each channel contiguous in memory.

    Channels begin at multiples of 16 numbers, so that the last, smaller batch is loaded by the same
    kernel and as widely.
    """
    if x.stride(0) == 1:
        return x
    batch, channels = x.shape
    packed = x.new_empty(channels, 16 * num_tiles(batch, 16)).T[:batch]
    return packed.copy_(x)


def linear_product_configs(walk: Walk, a: Tensor, precision: str) -> list[Config]:
    """For the forward product and the gradient with respect to x, which sum over the list.

    Several nodes per program re-read their batch tile from the L1 cache, which pays off while
    enough programs remain.
    """
    blocks = [
        (64, 32, 4, 3, 1),
        (64, 64, 4, 3, 1),
        (32, 64, 2, 4, 1),
        (128, 32, 4, 3, 1),
        (64, 32, 4, 4, 8),
        (128, 32, 8, 3, 8),
        (32, 64, 4, 3, 16),
        (64, 64, 4, 3, 32),
    ]
    if _sums_in_registers(a, precision):
        blocks = [(b, SHORT, warps, stages, nodes) for b, _, warps, stages, nodes in blocks]
    elif a.itemsize == 8:
        # With fewer warps large tiles would spill.
        blocks = [(b, k, max(warps, b * k // 512), stages, n) for b, k, warps, stages, n in blocks]
    batch = a.shape[0]
    fitting = [
        (b, k, warps, stages, nodes)
        for b, k, warps, stages, nodes in blocks
        if (b <= 64 or batch > 64)
        and (nodes == 1 or num_tiles(batch, b) * num_tiles(walk.num_nodes, nodes) >= 128)
    ]
    return _distinct(
        {
            "BLOCK_B": b,
            "BLOCK_N": rows,
            "BLOCK_K": k,
            "num_warps": warps,
            "num_stages": stages,
            "nodes": nodes,
            "pack": pack,
            "pad": pad,
        }
        for pack, pad in _layouts(walk, a)
        for rows, (b, k, warps, stages, nodes) in _with_rows(
            walk.largest, _tried(fitting, pad), least=8
        )
    )


def linear_weights_configs(walk: Walk, x: Tensor, precision: str) -> list[Config]:
    """For the gradient with respect to the weights, which sums over the batch."""
    blocks = [(64, 64, 4, 3), (32, 128, 4, 3), (64, 128, 8, 3), (128, 64, 4, 2), (32, 64, 2, 4)]
    if precision == "tf32":
        blocks += [(64, 32, 4, 3), (128, 32, 4, 3)]
    if _sums_in_registers(x, precision):
        blocks = [(SHORT, k, warps, stages) for _, k, warps, stages in blocks]
    elif x.itemsize == 2:
        # Large tiles spill with four warps.
        blocks = [(b, k, 8 if b * k > 4096 else warps, stages) for b, k, warps, stages in blocks]
    return _distinct(
        {
            "BLOCK_B": b,
            "BLOCK_N": rows,
            "BLOCK_K": k,
            "num_warps": warps,
            "num_stages": stages,
            "pack": pack,
            "pad": pad,
        }
        for pack, pad in _layouts(walk, x)
        for rows, (b, k, warps, stages) in _with_rows(
            walk.largest, _tried(blocks, pad, precision), least=8
        )
    )


def conv_product_configs(walk: Walk, a: Tensor, precision: str) -> list[Config]:
    """The same two products over maps: tiles of pixels by tiles of the list."""
    lists = [SHORT] if _sums_in_registers(a, precision) else [32, 64, 16]
    blocks = [(p, k) for k in lists if k == 16 or k < 2 * walk.longest for p in (128, 64, 256)]
    if a.itemsize == 8:  # larger tiles spill with eight warps, too
        blocks = [(p, k) for p, k in blocks if p * k <= 4096]
    return _conv_configs(walk, blocks, 16, most=8192)


def conv_weights_configs(walk: Walk, x: Tensor, precision: str) -> list[Config]:
    """The gradient with respect to the kernels, which sums over pixels."""
    pixels = [SHORT] if _sums_in_registers(x, precision) else [64, 128]
    blocks = [(p, k) for k in (64, 32, 16) if k == 16 or k < 2 * walk.longest for p in pixels]
    most = 4096 if x.itemsize == 2 else 8192
    return _conv_configs(walk, blocks, 8, most=most, weights=precision)


def _conv_configs(
    walk: Walk, blocks: list[tuple[int, int]], least_rows: int, *, most: int, weights: str = ""
) -> list[Config]:
    """Tiles of four warps, or of eight above ``most`` numbers, which spill with four.

    ``weights``: the precision of a gradient with respect to the weights.
    """
    return _distinct(
        {
            "BLOCK_P": p,
            "BLOCK_N": rows,
            "BLOCK_K": k,
            "num_warps": 8 if p * k > most else 4,
            "num_stages": 3,
            "pad": pad,
        }
        for pad in _conv_pads(walk)
        for rows, (p, k) in _with_rows(
            walk.largest * max(pad, 1), _tried(blocks, pad, weights), least=least_rows
        )
    )


def _conv_pads(walk: Walk) -> list[int]:
    """No padding, shares padded one by one, and as many merged as fill a tile of 16 rows."""
    nodes = min(16 // walk.largest, walk.num_nodes)
    return [0, 1, nodes] if nodes > 1 else [0, 1]


def _sums_in_registers(x: Tensor, precision: str) -> bool:
    return x.dtype == torch.float32 and precision == "ieee"


def _distinct(configs: Iterable[Config]) -> list[Config]:
    return list({tuple(config.items()): config for config in configs}.values())


def _with_rows(
    largest: int, blocks: Sequence[tuple[int, ...]], least: int
) -> list[tuple[int, tuple[int, ...]]]:
    """A tile of a node's own channels, ``largest`` or 64, with each of ``blocks``.

    Older versions of Triton do not support tiles below 16, so two candidates of 16 come first.
    """
    rows = min(max(1 << (largest - 1).bit_length(), least), 64)
    if rows >= 16:
        return [(rows, block) for block in blocks]
    return [(16, block) for block in blocks[:2]] + [(rows, block) for block in blocks]


def _layouts(walk: Walk, x: Tensor) -> list[tuple[int, int]]:
    """(pack, pad) of every layout that is tried, the one without a copy first.

    Single 16-bit numbers are too small for asynchronous copies, so packing is tried for them.
    Shares that do not all begin at multiples of 16 bytes are padded to do so.
    """
    single = walk.granule == 1 and x.itemsize == 2 and x.stride(0) != 1
    ragged = min(walk.granule, walk.weight_granule) * x.itemsize < PADDED_BYTES
    return [(0, 0)] + [(1, 0)] * single + [(0, 1)] * ragged


def _tried(
    blocks: Sequence[tuple[int, ...]], pad: int, weights: str = ""
) -> Sequence[tuple[int, ...]]:
    """Which tile sizes are tried: with padded shares the first two, as shapes are the same.

    ``weights``: the precision of a gradient with respect to the weights, whose tile has as many
    rows as the second number of a block.
    """
    if not pad:
        return blocks
    if weights == "tf32":
        blocks = [block for block in blocks if block[1] < GROUP_ROWS]
    return blocks[:2]
