"""Shares padded to 16 bytes, so that the Triton kernels load 16 bytes at a time.

A share of 23 float32 channels begins anywhere, and is loaded 4 bytes at a time. Padded to 24 it
begins at a multiple of 16 bytes, which quarters the instructions that load. Inputs and weights are
copied into the padded layout before a launch and results out of it afterwards; the layout of
parameters is the same as everywhere. Maps are laid out channels last and kernels tap by tap, so
that channels are contiguous there too. Whether that pays is for the trial to find: it is one of the
candidates.

A tile has at least 16 rows, most of them empty for a share of 5. So several nodes can be merged
into one before padding. It receives from all that any of its nodes receives from, with zeros as the
weights of the edges that are not there.
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
        plan: with padded shares, of merged nodes.
        tables: of ``plan``.
        gapless: the same, which read padded channels and write the real ones next to each other.
        inputs: (C_in,) position of each input channel among the padded ones.
        outputs: (C_out,) the same for output channels.
        weights: (num_weights,) position of each weight among the padded ones.
    """

    plan: RoundPlan
    tables: Tables
    gapless: Tables
    inputs: Tensor
    outputs: Tensor
    weights: Tensor

    def spread_inputs(self, x: Tensor) -> Tensor:
        """(B, C_in, ...) to the padded input channels, zeros between, channels last in memory."""
        return _spread_channels(x, self.inputs, self.plan.in_channels)

    def spread_outputs(self, y: Tensor) -> Tensor:
        """The same for (B, C_out, ...) and the padded output channels."""
        return _spread_channels(y, self.outputs, self.plan.out_channels)

    def spread_weights(self, weight: Tensor) -> Tensor:
        """(num_weights, ...) -> (..., the padded plan's num_weights), with zeros between."""
        return _spread(weight.movedim(0, -1), self.weights, self.plan.num_weights)

    def gather_weights(self, wide: Tensor) -> Tensor:
        """(..., the padded plan's num_weights) -> (num_weights, ...), contiguous."""
        return wide.index_select(-1, self.weights).movedim(-1, 0).contiguous()


def _spread_channels(x: Tensor, positions: Tensor, channels: int) -> Tensor:
    return _spread(x.movedim(1, -1), positions, channels).movedim(-1, 1)


def _spread(x: Tensor, positions: Tensor, size: int) -> Tensor:
    return x.new_zeros(*x.shape[:-1], size).index_copy_(-1, positions, x)


_PADDINGS: WeakKeyDictionary[RoundPlan, dict[tuple[torch.device, int, int], Padding]] = (
    WeakKeyDictionary()
)


def padded_shares(plan: RoundPlan, device: torch.device, itemsize: int, nodes: int = 1) -> Padding:
    """``plan`` with shares padded to 16 bytes of numbers of ``itemsize`` bytes; cached.

    ``nodes``: each run of so many nodes is merged into one.

    Raises:
        InputError: the padded round has more weights than 32-bit indices can address.
    """
    cached = _PADDINGS.setdefault(plan, {})
    key = (device, itemsize, nodes)
    if key not in cached:
        with untraced():
            cached[key] = _make(plan, device, PADDED_BYTES // itemsize, nodes)
    return cached[key]


def forget_paddings(plan: RoundPlan) -> None:
    """Drop what was cached for ``plan``."""
    for made in _PADDINGS.pop(plan, {}).values():
        forget_tables(made.plan)


def _make(plan: RoundPlan, device: torch.device, multiple: int, nodes: int) -> Padding:
    source, target = download(plan.source), download(plan.target)
    in_offsets, out_offsets = download(plan.in_offsets), download(plan.out_offsets)
    sizes_in, sizes_out = np.diff(in_offsets), np.diff(out_offsets)
    group = np.arange(plan.num_nodes) // nodes
    firsts = np.append(np.arange(0, plan.num_nodes, nodes), plan.num_nodes)
    merged_in, merged_out = in_offsets[firsts], out_offsets[firsts]
    groups = firsts.size - 1
    pairs, edge = np.unique(group[target] * groups + group[source], return_inverse=True)
    padded = make_plan(
        torch.from_numpy(np.stack([pairs % groups, pairs // groups])),
        (-(-np.diff(merged_in) // multiple) * multiple).tolist(),
        (-(-np.diff(merged_out) // multiple) * multiple).tolist(),
    )
    if padded is plan:
        padded = replace(plan)  # what is cached for a plan must not keep it alive
    edge_ptr, start = download(plan.edge_ptr), download(padded.weight_offset)[group]
    width = download(padded.fan_in)[group]
    first_row = out_offsets[:-1] - merged_out[group]
    column = download(padded.edge_column)[edge] + (in_offsets[source] - merged_in[group[source]])
    weights = [np.zeros(0, dtype=np.int64)]
    for v in range(plan.num_nodes):
        edges = range(edge_ptr[v], edge_ptr[v + 1])
        columns = [column[e] + np.arange(sizes_in[source[e]]) for e in edges]
        if columns:
            rows = start[v] + (first_row[v] + np.arange(sizes_out[v]))[:, None] * width[v]
            weights.append((rows + np.concatenate(columns)).reshape(-1))
    both = tables(padded, device)
    return Padding(
        plan=padded,
        tables=both,
        gapless=Tables(
            forward=_writing(both.forward, merged_out, device),
            transposed=_writing(both.transposed, merged_in, device),
        ),
        inputs=upload(_positions(np.diff(merged_in), download(padded.in_offsets)), device),
        outputs=upload(_positions(np.diff(merged_out), download(padded.out_offsets)), device),
        weights=upload(np.concatenate(weights), device),
    )


def _writing(walk: Walk, offsets: np.ndarray, device: torch.device) -> Walk:
    """``walk``, but with each share written at its offset among these."""
    return replace(
        walk,
        offsets=upload(offsets.astype(np.int32), device),
        num_channels=int(offsets[-1]),
        largest=int(np.diff(offsets).max()),
    )


def _positions(sizes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Where the channels of shares of these sizes lie if each begins at its offset."""
    return np.concatenate(
        [first + np.arange(size) for first, size in zip(offsets[:-1], sizes, strict=True)]
    )
