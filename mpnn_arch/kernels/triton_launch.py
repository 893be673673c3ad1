"""Launching a Triton kernel: tile sizes, precision, and splitting of long sums."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.capture import relaxed_capture
from mpnn_arch.kernels.dispatch.machines import tf32_allowed
from mpnn_arch.kernels.notice import said_if_slow
from mpnn_arch.kernels.triton_choices import recall, remember
from mpnn_arch.kernels.triton_configs import Config, num_tiles
from mpnn_arch.kernels.triton_tables import Walk

# A weight gradient of too few programs to fill the device is split along the batch, into parts of
# at least STRETCH products. Constants rather than properties of the device, because the split
# decides how sums round.
PROGRAMS_WANTED = 512
STRETCH = 1024

_MOST_PIXELS = 2**31 - 2**10  # less the last tile's excess

# By launch and device, the first configuration that compiles.
_UNTIMED: dict[tuple[Any, ...], int] = {}


@functools.cache  # Triton reads it once too
def interpreting() -> bool:
    """Whether the kernels run on the CPU, through Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


@functools.cache
def kernels() -> Any:
    """The module of the kernels; its first import imports Triton."""
    from mpnn_arch.kernels import triton_jit

    return triton_jit


def launch(
    run: Callable[[Config], Tensor], configs: list[Config], x: Tensor, key: tuple[Any, ...]
) -> Tensor:
    """``run`` with the fastest of ``configs`` for ``key``, timed at the first call.

    Under ``torch.use_deterministic_algorithms(True)`` it is always the first of them that compiles,
    even if others were timed before. While a CUDA graph is captured nothing can be timed: an
    earlier selection is used, else the first that compiles.

    Where no trial succeeds, as it takes memory of its own, the first that compiles is used, and the
    next call tries again.

    Raises:
        Exception: what the compiler raised for the last of ``configs``, if none compiles.
    """
    if not x.is_cuda:
        return run(configs[0])
    with torch.cuda.device(x.device):
        capturing = torch.cuda.is_current_stream_capturing()
        if torch.are_deterministic_algorithms_enabled():
            known = None
        else:
            known = recall(key, configs, x)
            if known is None and not capturing:
                known = _fastest(run, configs)
                if known is not None:
                    remember(key, known, x)
        with relaxed_capture() if capturing else nullcontext():
            if known is None:
                return _first_that_compiles(run, configs, (*key, x.device))
            return run(known)


def _first_that_compiles(
    run: Callable[[Config], Tensor], configs: list[Config], key: tuple[Any, ...]
) -> Tensor:
    last = len(configs) - 1
    for i in range(_UNTIMED.get(key, 0), last):
        with suppress(Exception):  # tiles that this device or this version of Triton refuses
            out = run(configs[i])
            _UNTIMED[key] = i
            return out
    _UNTIMED[key] = last
    return run(configs[last])


def _fastest(run: Callable[[Config], Tensor], configs: list[Config]) -> Config | None:
    from triton.testing import do_bench

    times = {}
    with said_if_slow("mpnn_arch compiles and times its GPU kernels, once for each layer's sizes"):
        for i, config in enumerate(configs):
            with suppress(Exception):  # tiles that this device or this version of Triton refuses
                times[i] = do_bench(functools.partial(run, config), warmup=2, rep=10)
    return configs[min(times, key=lambda i: times[i])] if times else None


def shape_key(x: Tensor, walk: Walk) -> tuple[Any, ...]:
    """What the best tile sizes depend on; batches between two powers of two share a key."""
    walked = (walk.num_nodes, walk.longest, walk.largest, walk.granule, walk.channel.numel())
    return (x.dtype, x.shape[0].bit_length(), x.stride(1) == 1, *walked)


def walk_arguments(walk: Walk) -> tuple[Tensor, ...]:
    """The tables in the order in which every kernel takes them."""
    return (walk.order, walk.list_ptr, walk.channel, walk.weight_start, walk.offsets)


def number_constants(x: Tensor, *, convolution: bool) -> dict[str, Any]:
    """The kernels' constants for the precision of products and sums."""
    import triton.language as tl

    precision = "ieee"
    if x.dtype == torch.float32 and tf32_allowed(convolution):
        precision = "tf32"
    return {
        "PRECISION": precision,
        "ACC": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "WIDEN": x.dtype == torch.bfloat16 and interpreting(),
    }


def check_addresses(pixels: int, *maps: Tensor) -> None:
    """Check what the kernels count in 32 bits: all pixels, and offsets within one sample's map.

    Raises:
        InputError: there are more.
    """
    for x in maps:
        span = sum(x.stride(i) * (x.shape[i] - 1) for i in (2, 3))
        if max(pixels, span) > _MOST_PIXELS:
            raise InputError(
                f"maps of shape {tuple(x.shape)} and strides {x.stride()} have {pixels} pixels, "
                f"which span {span} numbers each; the triton backend counts 2^31 of both: use "
                "smaller batches, contiguous maps or another backend"
            )


def common_granule(granule: int, stride: int) -> int:
    """The largest power of two that divides both; 1 for an expanded dimension."""
    while granule > 1 and (stride == 0 or stride % granule):
        granule //= 2
    return granule


def cut(programs: int, length: int) -> tuple[int, int]:
    """The number of splits of a sum over ``length``, and the length of each."""
    splits = max(1, min(PROGRAMS_WANTED // programs, length // STRETCH))
    per_split = num_tiles(length, splits)
    return num_tiles(length, per_split), per_split


def split_output(splits: int, numbers: int, like: Tensor) -> Tensor:
    """(numbers,); or (splits, numbers) of partial sums, at least float32 as they are added."""
    if splits == 1:
        return like.new_empty(numbers)
    return like.new_empty(splits, numbers, dtype=torch.promote_types(like.dtype, torch.float32))


def sum_splits(out: Tensor, dtype: torch.dtype) -> Tensor:
    """(numbers,): the sum of the splits, in a fixed order."""
    return out if out.dim() == 1 else out.sum(0).to(dtype)
