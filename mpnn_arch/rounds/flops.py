"""Counting the multiply-adds of a run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_Shape = tuple[int, ...]


def _of_vector(matrix: _Shape, vector: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _of_added_vector(added: _Shape, matrix: _Shape, vector: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _of_bilinear(left: _Shape, weight: _Shape, right: _Shape, *_: Any, **__: Any) -> int:
    """(B, I), (O, I, J), (B, J): the product with a matrix, and that of its result."""
    return 2 * left[0] * weight[0] * (left[1] + 1) * right[1]


# Products that torch's counter passes over.
_MORE = {
    torch.ops.aten.mv: _of_vector,
    torch.ops.aten.addmv: _of_added_vector,
    torch.ops.aten.dot: _of_vector,
    torch.ops.aten._trilinear: _of_bilinear,  # of `nn.Bilinear`
}


class ProductCounter(FlopCounterMode):
    """Torch's counter of operations, with more of them, without the counts of every module.

    Torch tracks modules by hooks on their gradients, which fail in a module that computes gradients
    in its ``forward``, as PyG's ``EquilibriumAggregation`` does.
    """

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=_MORE)
        self.mod_tracker: Any = _NoModules()

    @property
    def multiply_adds(self) -> int:
        """So far: half of the operations."""
        return int(self.get_total_flops()) // 2


class _NoModules:
    parents = frozenset({"Global"})

    def __enter__(self) -> _NoModules:
        return self

    def __exit__(self, *exception: object) -> None:
        pass
