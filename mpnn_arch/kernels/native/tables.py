"""A plan as the C++ kernels read it: the channels in every sum, and the offsets of weights."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from mpnn_arch.kernels.plan import RoundPlan, offsets_of

Numbers = npt.NDArray[np.int64]
AHEAD = 48  # in native/tables.h: entries past the end that a kernel looks at to prefetch


class Side(ctypes.Structure):
    """``Side`` in native/tables.h."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("channels", "start", "term", "where", "cost")
    )


class _Columns(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("start", "channel", "column"))


class PlanStructure(ctypes.Structure):
    """``Plan`` in native/tables.h."""

    _fields_ = (
        ("num_nodes", ctypes.c_int64),
        ("in_channels", ctypes.c_int64),
        ("out_channels", ctypes.c_int64),
        ("weight_offset", ctypes.c_void_p),
        ("fan_in", ctypes.c_void_p),
        ("forward", Side),
        ("backward", Side),
        ("narrow", _Columns),
        ("wide", _Columns),
    )


class Tables:
    """The C structure and the arrays that it points to.

    Args:
        plan: of the round.
        places: channels that one vector of the outer product holds, in float32 and float64.
    """

    def __init__(self, plan: RoundPlan, places: tuple[int, int]) -> None:
        self._arrays: list[npt.NDArray[np.generic]] = []
        self._source, self._target = plan.source.numpy(), plan.target.numpy()
        self._ins, self._outs = plan.in_offsets.numpy(), plan.out_offsets.numpy()
        self._width, self._weights = plan.fan_in.numpy(), plan.weight_offset.numpy()
        self._edge_column = plan.edge_column.numpy()
        self.structure = PlanStructure(
            plan.num_nodes,
            plan.in_channels,
            plan.out_channels,
            self._keep(self._weights, np.int64),
            self._keep(self._width, np.int64),
            self._forward(),
            self._backward(),
            self._columns(places[0]),
            self._columns(places[1]),
        )
        self.pointer = ctypes.addressof(self.structure)

    def _keep(self, values: npt.NDArray[np.generic], dtype: npt.DTypeLike) -> int:
        array = np.ascontiguousarray(values, dtype=dtype)
        self._arrays.append(array)
        return int(array.ctypes.data)

    def _forward(self) -> Side:
        sizes = np.diff(self._ins)
        return Side(
            self._keep(self._outs, np.int64),
            self._keep(offsets_of(self._width), np.int64),
            self._keep(ranges(self._ins[self._source], sizes[self._source]), np.int32),
            None,
            self._keep(self._weights, np.int64),
        )

    def _backward(self) -> Side:
        order = np.lexsort((self._target, self._source))
        target, source = self._target[order], self._source[order]
        sizes = np.diff(self._outs)
        terms = ranges(self._outs[target], sizes[target])
        first = np.repeat(self._weights[target] + self._edge_column[order], sizes[target])
        local = terms - np.repeat(self._outs[target], sizes[target])
        where = first + local * np.repeat(self._width[target], sizes[target])
        fan_out = np.bincount(source, sizes[target], len(sizes)).astype(np.int64)
        return Side(
            self._keep(self._ins, np.int64),
            self._keep(offsets_of(fan_out), np.int64),
            self._keep(terms, np.int32),
            self._keep(np.pad(where, (0, AHEAD)), np.int64),
            self._keep(offsets_of(fan_out * np.diff(self._ins)), np.int64),
        )

    def _columns(self, places: int) -> _Columns:
        source, target, nodes = self._source, self._target, len(self._width)
        starts = np.ones(len(source), dtype=bool)
        starts[1:] = (np.diff(source) != 1) | (np.diff(target) != 0)
        lengths = np.add.reduceat(np.diff(self._ins)[source], np.flatnonzero(starts))
        vectors = -(-lengths // places)
        step = ranges(np.zeros_like(vectors), vectors) * places
        owner = np.repeat(target[starts], vectors)
        channel = np.repeat(self._ins[source[starts]], vectors) + step
        column = np.repeat(self._edge_column[starts], vectors) + step
        # After each node's vectors comes a marker with the end of its row.
        count = np.bincount(owner, minlength=nodes)
        markers = np.cumsum(count)
        return _Columns(
            self._keep(offsets_of(count + 1), np.int64),
            self._keep(np.insert(channel, markers, 0), np.int32),
            self._keep(np.insert(column, markers, self._width), np.int32),
        )


def ranges(starts: Numbers, lengths: Numbers) -> Numbers:
    """start, start + 1, ... of every range, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)
