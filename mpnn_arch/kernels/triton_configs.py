"""Candidate tile sizes of a trial; the first of each list is the default without a trial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mpnn_arch.kernels.triton_tables import Walk

# The kernel's own constants, and ``nodes``, how many a program processes in sequence, and ``pack``,
# whether its input is first copied to channel-major layout.
Config = dict[str, int]


def num_tiles(size: int, block: int) -> int:
    """Tiles of ``block`` that cover ``size``."""
    return -(-size // block)


def kernel_options(config: Config) -> Config:
    """The kernel's own constants in ``config``."""
    return {name: value for name, value in config.items() if name not in ("nodes", "pack")}


def channel_major(x: Tensor) -> Tensor:
    """``x`` (B, C) in channel-major layout: each channel contiguous in memory."""
    return x if x.stride(0) == 1 else x.T.contiguous().T


def linear_product_configs(walk: Walk, a: Tensor) -> list[Config]:
    """For the forward product and the gradient with respect to x.

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
    batch = a.shape[0]
    fitting = [
        (b, k, warps, stages, nodes)
        for b, k, warps, stages, nodes in blocks
        if (b <= 64 or batch > 64)
        and (nodes == 1 or num_tiles(batch, b) * num_tiles(walk.num_nodes, nodes) >= 128)
    ]
    return [
        {
            "BLOCK_B": b,
            "BLOCK_N": rows,
            "BLOCK_K": k,
            "num_warps": warps,
            "num_stages": stages,
            "nodes": nodes,
            "pack": pack,
        }
        for pack in _packings(walk, a)
        for rows, (b, k, warps, stages, nodes) in _with_rows(walk, fitting, least=8)
    ]


def linear_weights_configs(walk: Walk, x: Tensor) -> list[Config]:
    """For the gradient with respect to the weights."""
    blocks = [(64, 64, 4, 3), (32, 128, 4, 3), (64, 128, 8, 3), (128, 64, 4, 2), (32, 64, 2, 4)]
    return [
        {
            "BLOCK_B": b,
            "BLOCK_N": rows,
            "BLOCK_K": k,
            "num_warps": warps,
            "num_stages": stages,
            "pack": pack,
        }
        for pack in _packings(walk, x)
        for rows, (b, k, warps, stages) in _with_rows(walk, blocks, least=8)
    ]


def conv_configs(
    walk: Walk, least_rows: int, pixels: Iterable[int], list_blocks: Iterable[int]
) -> list[Config]:
    """For a convolution: tiles of ``pixels`` by tiles of the list, no longer than needed."""
    blocks = [(p, k) for k in list_blocks if k == 16 or k < 2 * walk.longest for p in pixels]
    return [
        {"BLOCK_P": p, "BLOCK_N": rows, "BLOCK_K": k, "num_warps": 4, "num_stages": 3}
        for rows, (p, k) in _with_rows(walk, blocks, least=least_rows)
    ]


def _with_rows(
    walk: Walk, blocks: Sequence[tuple[int, ...]], least: int
) -> list[tuple[int, tuple[int, ...]]]:
    """A tile of a node's own channels, at most 64, with each of ``blocks``.

    Older versions of Triton do not support tiles below 16, so two candidates of 16 come first.
    """
    rows = min(max(1 << (walk.largest - 1).bit_length(), least), 64)
    if rows >= 16:
        return [(rows, block) for block in blocks]
    return [(16, block) for block in blocks[:2]] + [(rows, block) for block in blocks]


def _packings(walk: Walk, x: Tensor) -> list[int]:
    """Whether to try packing: single 16-bit numbers are too small for asynchronous copies."""
    small = x.dtype in (torch.float16, torch.bfloat16)
    return [0, 1] if small and walk.granule == 1 and x.stride(0) != 1 else [0]
