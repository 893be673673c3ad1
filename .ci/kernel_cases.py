"""Cases for kernel_driver.cpp: random rounds, and what the masked backend computes for them.

All numbers are small integers, so that every sum is exact in float32 and bits can be compared.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from mpnn_arch.kernels import masked
from mpnn_arch.kernels.cpu_library import conv_numbers
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.native.tables import Tables
from mpnn_arch.kernels.plan import RoundPlan, make_plan

# (batch, channels of a node) of rounds over vectors; (batch, rows, columns, kernel, stride,
# padding, dilation) of rounds over maps.
_VECTORS = [(1, 1), (2, 20), (3, 9), (4, 20), (7, 3), (16, 5), (33, 9), (65, 20), (300, 7)]
_MAPS = [
    (1, 8, 8, (3, 3), 1, 1, 1),
    (3, 9, 7, (3, 3), 2, 1, 1),
    (5, 4, 4, (1, 1), 1, 0, 1),
    (2, 11, 13, (5, 3), 1, 2, 2),
    (9, 3, 3, (3, 1), 3, 1, 1),
]


def write_cases(path: Path, places: tuple[int, int], seed: int = 0) -> int:
    """Write all products of some rounds; their number.

    Args:
        path: of the file.
        places: of the library, see :class:`Tables`.
        seed: of all random numbers.
    """
    count = 0
    with path.open("wb") as file:
        for head, plan, tensors in _cases(random.Random(seed)):
            arrays = [array.tobytes() for array in Tables(plan, places)._arrays]
            # A matrix product may leave -0.0, which the kernels' sums from 0.0 do not: add 0.0.
            operands = [(tensor + 0.0).contiguous().numpy().tobytes() for tensor in tensors]
            for part in (struct.pack(f"<{len(head)}q", *head), *arrays, *operands):
                _write(file, part)
            count += 1
    return count


def _write(file: BinaryIO, part: bytes) -> None:
    file.write(struct.pack("<q", len(part)))
    file.write(part)


def _cases(draw: random.Random) -> Iterator[tuple[list[int], RoundPlan, list[Tensor]]]:
    generator = torch.Generator().manual_seed(draw.getrandbits(32))

    def numbers(*shape: int) -> Tensor:
        return torch.randint(-3, 4, shape, generator=generator).to(dtype)

    for dtype in (torch.float32, torch.float64):
        for batch, most in _VECTORS:
            plan = _plan(draw, generator, most)
            x, grad = numbers(batch, plan.in_channels), numbers(batch, plan.out_channels)
            w = numbers(plan.num_weights)
            products = [
                (x, w, masked.linear_forward(x, w, plan)),
                (grad, w, masked.linear_grad_input(grad, w, plan)),
                (grad, x, masked.linear_grad_weight(grad, x, plan)),
            ]
            for name, (first, second, result) in enumerate(products):
                rows = [first.shape[1], second.shape[-1]]
                head = [name, dtype.itemsize, batch, *rows, *_sizes(plan), *[0] * 14]
                yield head, plan, [first, second, result]
            # Both gradients at once: grad and x, the weights, and the gradients of x and of W.
            together = [
                torch.cat([part.flatten() for part in pair])
                for pair in ((grad, x), (products[1][2], products[2][2]))
            ]
            rows = [plan.out_channels, plan.in_channels]
            head = [6, dtype.itemsize, batch, *rows, *_sizes(plan), *[0] * 14]
            yield head, plan, [together[0], w, together[1]]
        for batch, rows, columns, size, *moves in _MAPS:
            plan = _plan(draw, generator, draw.choice([2, 9]))
            geometry = ConvGeometry.of(size, *moves)
            x = numbers(batch, plan.in_channels, rows, columns)
            grad = numbers(batch, plan.out_channels, *geometry.output_size((rows, columns)))
            w = numbers(plan.num_weights, *size)
            shape, steps = tuple(x.shape), geometry[1:]
            products = [
                (x, w, masked.conv2d_forward(x, w, plan, *steps)),
                (grad, w, masked.conv2d_grad_input(grad, w, plan, shape, *steps)),
                (grad, x, masked.conv2d_grad_weight(grad, x, plan, size, *steps)),
            ]
            fields = list(conv_numbers(shape, size, *steps))
            for name, (first, second, result) in enumerate(products, start=3):
                head = [name, dtype.itemsize, batch, 0, 0, *_sizes(plan), 1, *fields]
                yield head, plan, [first, second, result]


def _sizes(plan: RoundPlan) -> list[int]:
    return [plan.num_nodes, plan.in_channels, plan.out_channels]


def _plan(draw: random.Random, generator: torch.Generator, most: int) -> RoundPlan:
    nodes = draw.randint(2, 12)
    edges = torch.rand(nodes, nodes, generator=generator) < 0.4
    edges.fill_diagonal_(True)
    ins, outs = ([draw.randint(1, most) for _ in range(nodes)] for _ in range(2))
    return make_plan(edges.nonzero().T.flip(0), ins, outs)
