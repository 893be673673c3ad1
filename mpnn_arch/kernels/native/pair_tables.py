"""A plan as the kernels of bfloat16 read it: every term is two adjacent channels of a share."""

from __future__ import annotations

import ctypes

import numpy as np

from mpnn_arch.kernels.native.tables import AHEAD, Numbers, PlanStructure, Side, Tables, ranges
from mpnn_arch.kernels.plan import RoundPlan, offsets_of


class _PairPlan(ctypes.Structure):
    _fields_ = (
        ("plan", PlanStructure),
        ("in_pairs", ctypes.c_int64),
        ("out_pairs", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "in_size",
                "out_size",
                "in_start",
                "out_start",
                "edge",
                "edge_size",
                "row_step",
            )
        ),
    )


class PairTables(Tables):
    """The C structure and the arrays that it points to.

    Args:
        plan: of the round.
        places: channels that one vector of the outer product holds, in float32 and float64.
    """

    def __init__(self, plan: RoundPlan, places: tuple[int, int]) -> None:
        self._in_size, self._out_size = plan.in_sizes.numpy(), plan.out_sizes.numpy()
        self._in_pairs, self._out_pairs = -(-self._in_size // 2), -(-self._out_size // 2)
        super().__init__(plan, places)
        self.pairs = _PairPlan(
            self.structure,
            self._in_pairs.sum(),
            self._out_pairs.sum(),
            self._keep(self._in_size, np.int32),
            self._keep(self._out_size, np.int32),
            self._keep(_pair_starts(self._in_size, self._in_pairs), np.int32),
            self._keep(_pair_starts(self._out_size, self._out_pairs), np.int32),
            self._keep(plan.edge_ptr.numpy(), np.int64),
            self._keep(self._in_size[self._source], np.int32),
            self._keep(self._row_step, np.int64),
        )
        self.pointer = ctypes.addressof(self.pairs)

    def _forward(self) -> Side:
        nodes, pairs = len(self._width), self._in_pairs[self._source]
        count = np.bincount(self._target, pairs, nodes).astype(np.int64)
        return Side(
            self._keep(self._outs, np.int64),
            self._keep(offsets_of(count), np.int64),
            self._keep(ranges(offsets_of(self._in_pairs)[self._source], pairs), np.int32),
            None,
            self._keep(offsets_of(count * self._out_size), np.int64),
        )

    def _backward(self) -> Side:
        order = np.lexsort((self._target, self._source))
        target, source = self._target[order], self._source[order]
        pairs = self._out_pairs[target]
        first = offsets_of(self._out_pairs)[target]
        terms = ranges(first, pairs)
        row = 2 * (terms - np.repeat(first, pairs))
        width = np.repeat(self._width[target], pairs)
        block = np.repeat(self._weights[target] + self._edge_column[order], pairs)
        has_second = row + 1 < np.repeat(self._out_size[target], pairs)
        self._row_step = np.where(has_second, width, 0)
        count = np.bincount(source, pairs, len(self._width)).astype(np.int64)
        return Side(
            self._keep(self._ins, np.int64),
            self._keep(offsets_of(count), np.int64),
            self._keep(terms, np.int32),
            self._keep(np.pad(block + row * width, (0, AHEAD)), np.int64),
            self._keep(offsets_of(count * self._in_size), np.int64),
        )


def _pair_starts(sizes: Numbers, pairs: Numbers) -> Numbers:
    """The first channel of every pair, and the number of channels."""
    first = ranges(np.zeros_like(pairs), pairs) * 2 + np.repeat(offsets_of(sizes)[:-1], pairs)
    return np.append(first, sizes.sum())
