"""Shares padded to 16 bytes, so that the Triton kernels load 16 bytes at a time.

A share of 23 float32 channels begins anywhere, and is loaded 4 bytes at a time. Padded to 24 it
begins at a multiple of 16 bytes, which quarters the instructions that load. Inputs and weights are
copied into the padded layout before a launch and results out of it afterwards; the layout of
parameters is the same as everywhere. Maps are laid out channels last and kernels tap by tap, so
that channels are contiguous there too. Whether that pays is for the trial to find: it is one of the
candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from mpnn_arch.kernels.capture import download, upload
from mpnn_arch.kernels.dispatch.tracing import untraced
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.kernels.triton_configs import PADDED_BYTES
from mpnn_arch.kernels.triton_tables import Tables, Walk, forget_tables, tables


@dataclass(frozen=True, eq=False)
class Padding:
    """A round with padded shares, and where its real channels and weights lie in it.

    Attributes:
        plan: with padded shares.
        tables: of ``plan``.
        inputs: (C_in,) position of each input channel among the padded ones.
        outputs: (C_out,) the same for output channels.
        weights: (num_weights,) position of each weight among the padded ones.
    """

    plan: RoundPlan
    tables: Tables
    inputs: Tensor
    outputs: Tensor
    weights: Tensor

    def spread_weights(self, weight: Tensor) -> Tensor:
        """(num_weights, ...) -> (..., the padded plan's num_weights), with zeros between."""
        return _spread(weight.movedim(0, -1), self.weights, self.plan.num_weights)

    def gather_weights(self, wide: Tensor) -> Tensor:
        """(..., the padded plan's num_weights) -> (num_weights, ...), contiguous."""
        return wide.index_select(-1, self.weights).movedim(-1, 0).contiguous()

    def walk(self, walk: Walk, *, transposed: bool) -> Walk:
        """The padded channels to read for ``walk``, which has the real ones to write."""
        padded = self.tables.transposed if transposed else self.tables.forward
        return replace(
            padded,
            offsets=walk.offsets,
            num_channels=walk.num_channels,
            largest=walk.largest,
        )


def spread(x: Tensor, positions: Tensor, channels: int) -> Tensor:
    """(B, C, ...) -> (B, ``channels``, ...) in channels-last layout.

    Each channel is at its position, with zeros between.
    """
    return _spread(x.movedim(1, -1), positions, channels).movedim(-1, 1)


def _spread(x: Tensor, positions: Tensor, size: int) -> Tensor:
    return x.new_zeros(*x.shape[:-1], size).index_copy_(-1, positions, x)


_PADDINGS: WeakKeyDictionary[RoundPlan, dict[tuple[torch.device, int], Padding]] = (
    WeakKeyDictionary()
)


def padded_shares(plan: RoundPlan, device: torch.device, itemsize: int) -> Padding:
    """``plan`` with shares padded to 16 bytes of numbers of ``itemsize`` bytes; cached.

    Raises:
        InputError: the padded round has more weights than 32-bit indices can address.
    """
    cached = _PADDINGS.setdefault(plan, {})
    if (device, itemsize) not in cached:
        with untraced():
            cached[device, itemsize] = _make(plan, device, PADDED_BYTES // itemsize)
    return cached[device, itemsize]


def forget_paddings(plan: RoundPlan) -> None:
    """Drop what was cached for ``plan``."""
    for made in _PADDINGS.pop(plan, {}).values():
        forget_tables(made.plan)


def _make(plan: RoundPlan, device: torch.device, multiple: int) -> Padding:
    source, target = download(plan.source), download(plan.target)
    in_offsets, out_offsets = download(plan.in_offsets), download(plan.out_offsets)
    sizes_in, sizes_out = np.diff(in_offsets), np.diff(out_offsets)
    padded = make_plan(
        torch.from_numpy(np.stack([source, target])),
        (-(-sizes_in // multiple) * multiple).tolist(),
        (-(-sizes_out // multiple) * multiple).tolist(),
    )
    edge_ptr, column = download(plan.edge_ptr), download(padded.edge_column)
    start, width = download(padded.weight_offset), download(padded.row_width)
    weights = [np.zeros(0, dtype=np.int64)]
    for v in range(plan.num_nodes):
        edges = range(edge_ptr[v], edge_ptr[v + 1])
        columns = [column[e] + np.arange(sizes_in[source[e]]) for e in edges]
        if columns:
            rows = start[v] + np.arange(sizes_out[v])[:, None] * width[v]
            weights.append((rows + np.concatenate(columns)).reshape(-1))
    return Padding(
        plan=padded,
        tables=tables(padded, device),
        inputs=upload(_positions(sizes_in, download(padded.in_offsets)), device),
        outputs=upload(_positions(sizes_out, download(padded.out_offsets)), device),
        weights=upload(np.concatenate(weights), device),
    )


def _positions(sizes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where the channels of shares of these sizes lie if each begins at its offset."""
    return np.concatenate(
        [first + np.arange(size) for first, size in zip(offsets[:-1], sizes, strict=True)]
    )
