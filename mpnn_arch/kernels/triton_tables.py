"""The index tables of the Triton kernels, built once per plan and device."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.capture import download, upload
from mpnn_arch.kernels.dispatch.tracing import untraced
from mpnn_arch.kernels.plan import RoundPlan, offsets_of
from mpnn_arch.kernels.triton_ready import Known


@dataclass(frozen=True, eq=False)
class Walk:
    """What each node reads: a list of channels, and where their weights start. All int32.

    Shapes: N nodes, L the summed length of the lists.

    Attributes:
        order: (N,) nodes, longest list first, so that the last programs to run are short.
        list_ptr: (N + 1,) node v's list is ``list_ptr[v]:list_ptr[v + 1]``.
        channel: (L,) the channels read, each share contiguous.
        weight_start: forward (N,): where node v's [size_v, fan_in_v] weights start. Transposed
            (L,): where the weights between this list's channel and the node's own channels start.
        offsets: (N + 1,) the node's own channels, those that it writes.
        num_nodes: N.
        num_channels: number of all channels written.
        longest: length of the longest list.
        largest: the largest share among the channels written.
        granule: channels come in aligned groups of this power of two.
        weight_granule: so do the weights, along their contiguous dimension.
        ready: launches on these tables that can be repeated.
    """

    order: Tensor
    list_ptr: Tensor
    channel: Tensor
    weight_start: Tensor
    offsets: Tensor
    num_nodes: int
    num_channels: int
    longest: int
    largest: int
    granule: int
    weight_granule: int
    ready: Known = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tables:
    """Both walks of a plan.

    Attributes:
        forward: for each target, the input channels that it receives.
        transposed: for each source, the output channels of its targets (CSC).
    """

    forward: Walk
    transposed: Walk

    def walk(self, *, transposed: bool) -> Walk:
        """One of them."""
        return self.transposed if transposed else self.forward


# Cached outside the plan, so that it is copied and pickled without them.
_TABLES: WeakKeyDictionary[RoundPlan, dict[torch.device, Tables]] = WeakKeyDictionary()


def tables(plan: RoundPlan, device: torch.device) -> Tables:
    """The tables of ``plan`` on ``device``; built at the first call, then cached.

    Raises:
        InputError: the round has more weights or messages than 32-bit indices can address.
    """
    cached = _TABLES.setdefault(plan, {})
    if device not in cached:
        with untraced():
            cached[device] = _make(plan, device)
    return cached[device]


def forget_tables(plan: RoundPlan) -> None:
    """Drop the tables of ``plan`` on all devices."""
    _TABLES.pop(plan, None)


def _make(plan: RoundPlan, device: torch.device) -> Tables:
    if plan.num_weights >= 2**31:
        raise InputError(
            f"the round has {plan.num_weights} weights and the triton backend indexes 2^31 - 1; "
            "use another backend"
        )

    source, target = download(plan.source), download(plan.target)
    in_offsets, out_offsets = download(plan.in_offsets), download(plan.out_offsets)
    edge_column, fan_in = download(plan.edge_column), download(plan.fan_in)
    weight_offset, edge_ptr = download(plan.weight_offset), download(plan.edge_ptr)
    in_size, out_size = np.diff(in_offsets), np.diff(out_offsets)
    in_granule, out_granule = _granule(in_offsets), _granule(out_offsets)

    _, column = _within(in_size[source])
    forward = _walk(
        list_ptr=offsets_of(in_size[source])[edge_ptr],
        channel=np.repeat(in_offsets[source], in_size[source]) + column,
        weight_start=weight_offset[:-1],
        offsets=out_offsets,
        granule=in_granule,
        weight_granule=in_granule,
        device=device,
    )

    by_source = np.lexsort((target, source))
    targets = target[by_source]
    edge, row = _within(out_size[targets])
    receiver = targets[edge]
    first_message = np.searchsorted(source[by_source], np.arange(plan.num_nodes + 1))
    transposed = _walk(
        list_ptr=offsets_of(out_size[targets])[first_message],
        channel=out_offsets[receiver] + row,
        weight_start=(
            weight_offset[receiver] + row * fan_in[receiver] + edge_column[by_source][edge]
        ),
        offsets=in_offsets,
        granule=out_granule,
        weight_granule=in_granule,
        device=device,
    )
    return Tables(forward, transposed)


def _walk(
    *,
    list_ptr: np.ndarray,
    channel: np.ndarray,
    weight_start: np.ndarray,
    offsets: np.ndarray,
    granule: int,
    weight_granule: int,
    device: torch.device,
) -> Walk:
    def to_device(values: np.ndarray) -> Tensor:
        return upload(values.astype(np.int32), device)

    length = np.diff(list_ptr)
    return Walk(
        order=to_device(np.argsort(-length, kind="stable")),
        list_ptr=to_device(list_ptr),
        channel=to_device(channel),
        weight_start=to_device(weight_start),
        offsets=to_device(offsets),
        num_nodes=length.size,
        num_channels=int(offsets[-1]),
        longest=int(length.max()),
        largest=int(np.diff(offsets).max()),
        granule=granule,
        weight_granule=weight_granule,
    )


def _within(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For contiguous blocks of ``sizes`` entries: each entry's block, and its index within it."""
    block = np.repeat(np.arange(sizes.size), sizes)
    return block, np.arange(block.size) - offsets_of(sizes)[block]


def _granule(offsets: np.ndarray) -> int:
    """The largest power of two, at most 16, that divides every offset."""
    return gcd(reduce(gcd, offsets.tolist(), 0), 16)
