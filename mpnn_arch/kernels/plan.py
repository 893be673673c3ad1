"""The index tensors of one round, computed once from the edges and the two partitions.

One parameter layout, by node, serves every backend; weights that no backend multiplies may have
another (:mod:`mpnn_arch.rounds.messages`). A round's weights are the entries that its dense matrix
(C_out, C_in) has where the graph has an edge, in row-major order: a vector of ``num_weights``
numbers (for a conv round each entry is a K x K kernel). Because the channels of a node are
contiguous, that order is also "target node by target node, each a [size_v, fan_in_v] matrix", whose
fan_in_v columns are the input channels of v's neighbours in ascending order. On the complete graph
it is the dense weight itself.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from mpnn_arch.checks import LARGEST_COUNT as LARGEST
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.tracing import untraced
from mpnn_arch.kernels.memory import require_memory

P = ParamSpec("P")
R = TypeVar("R")


def _untraced(make: Callable[P, R]) -> Callable[P, R]:
    """``make``, of real tensors even if called under tracing or a transform."""

    @functools.wraps(make)
    def real(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():  # the compiler cannot trace `untraced`
            return make(*args, **kwargs)
        with untraced():
            return make(*args, **kwargs)

    return real


def _table(make: Callable[[Any], Tensor]) -> Any:
    return cached_property(_untraced(make))


@dataclass(frozen=True, eq=False)
class RoundPlan:
    """Index tensors of the messages, shares and weights of one round.

    Shapes: N nodes, E edges (sorted by target, then source), C_in and C_out channels. Integers are
    int64. Create it with :func:`make_plan`; ``to`` moves it to a device. Equal plans on one
    device are one object, so the tables that a backend caches per plan are built once per process.

    Attributes:
        source: (E,) the sender of each message.
        target: (E,) the receiver of each message.
        edge_ptr: (N + 1,) the edges of target v are ``edge_ptr[v]:edge_ptr[v + 1]``.
        in_offsets: (N + 1,) node u's input channels are ``in_offsets[u]:in_offsets[u + 1]``.
        out_offsets: (N + 1,) the same for output channels.
        fan_in: (N,) the fan-in of node v: input channels of all its neighbours.
        weight_offset: (N + 1,) where node v's [size_v, fan_in_v] weights start.
        edge_column: (E,) the first column of the edge's block within its target's fan_in_v columns.
        num_nodes, in_channels, out_channels: N, C_in and C_out.
        num_weights: channel pairs along the edges.
        largest_in, largest_out: channels of the largest share.
        key: digest of the edges and shares, the same in every process.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> plan = RelationalLinear(graphs.ring(4, 2), 6, 6).plan
        >>> plan.num_edges, plan.num_weights
        (12, 28)
        >>> plan.in_offsets, plan.fan_in
        (tensor([0, 2, 4, 5, 6]), tensor([5, 5, 4, 4]))
    """

    source: Tensor
    target: Tensor
    edge_ptr: Tensor
    in_offsets: Tensor
    out_offsets: Tensor
    fan_in: Tensor
    weight_offset: Tensor
    edge_column: Tensor
    num_nodes: int
    in_channels: int
    out_channels: int
    num_weights: int
    largest_in: int
    largest_out: int
    key: str

    def __deepcopy__(self, memo: dict[int, Any]) -> RoundPlan:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # By value: the shared memory of tensors is gone before a spawned process opens it.
        tables = (self.edge_index, self.in_sizes, self.out_sizes)
        return _restore, (*(table.cpu().numpy() for table in tables), str(self.device))

    @property
    def num_edges(self) -> int:
        """E, counting both directions and self-loops."""
        return self.source.numel()

    @property
    def is_complete(self) -> bool:
        """Whether every node receives from every node: the round is a dense layer."""
        return self.num_weights == self.in_channels * self.out_channels

    @property
    def block_density(self) -> float:
        """Number of weights over that of the dense layer between the same channels."""
        return self.num_weights / (self.in_channels * self.out_channels)

    @property
    def device(self) -> torch.device:
        """Device of the index tensors."""
        return self.source.device

    def to(self, device: torch.device | str) -> RoundPlan:
        """This plan with its tensors and cached tables on ``device``."""
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        if device == self.device:
            return self
        known = find_plan(self.key, device)
        if known is not None:
            return known
        names = [field.name for field in dataclasses.fields(self)]
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        moved: dict[str, Any] = {
            k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()
        }
        plan = RoundPlan(**moved)
        for name, table in list(self.__dict__.items()):
            if name not in moved and isinstance(table, Tensor):
                plan.__dict__[name] = table.to(device)
        return _register(plan)

    @_table
    def edge_index(self) -> Tensor:
        """(2, E) senders and receivers."""
        return torch.stack([self.source, self.target])

    @_table
    def in_sizes(self) -> Tensor:
        """(N,) input channels of each node."""
        return self.in_offsets.diff()

    @_table
    def out_sizes(self) -> Tensor:
        """(N,) output channels of each node."""
        return self.out_offsets.diff()

    @cached_property
    @_untraced
    def edge_bounds(self) -> list[int]:
        """``edge_ptr`` as numbers, which a tracer takes for constants."""
        return cast(list[int], self.edge_ptr.tolist())

    @_table
    def channel_degree(self) -> Tensor:
        """(C_out,) messages that the node of each output channel receives."""
        degree = self.edge_ptr.diff()
        return degree.repeat_interleave(self.out_sizes, output_size=self.out_channels)

    @_table
    def dense_index(self) -> Tensor:
        """(num_weights,) each weight's index in the flattened (C_out, C_in) matrix, ascending."""
        return self.dense_mask.flatten().nonzero().squeeze(1)

    @property
    def dense_mask(self) -> Tensor:
        """(C_out, C_in) bool, True where the graph has an edge between the channels' nodes.

        Raises:
            InputError: it cannot fit into memory.
        """
        largest = max(self.num_nodes**2, self.in_channels * self.out_channels)
        _require(largest, self.device, "a round's dense mask")
        nodes = torch.zeros(self.num_nodes, self.num_nodes, dtype=torch.bool, device=self.device)
        nodes[self.target, self.source] = True
        rows = nodes.repeat_interleave(self.out_sizes, dim=0)
        return rows.repeat_interleave(self.in_sizes, dim=1)

    def release_dense_index(self) -> None:
        """Drop ``dense_index``; it is recomputed when needed."""
        self.__dict__.pop("dense_index", None)

    @_table
    def block_index(self) -> Tensor:
        """(E, largest_out, largest_in): each edge's block within the weight vector.

        Entries past a smaller share point to ``num_weights``, one past the end, where the caller
        appends a zero.

        Raises:
            InputError: they cannot fit into memory.
        """
        device = self.device
        _require(
            TABLE_BYTES * self.num_edges * self.largest_out * self.largest_in,
            device,
            "one block of indices per edge, as large as the largest shares,",
        )
        row = torch.arange(self.largest_out, device=device)[None, :, None]
        column = torch.arange(self.largest_in, device=device)[None, None, :]
        start = (self.weight_offset[self.target] + self.edge_column)[:, None, None]
        index = start + row * self.fan_in[self.target][:, None, None] + column
        real = (row < self.out_sizes[self.target][:, None, None]) & (
            column < self.in_sizes[self.source][:, None, None]
        )
        return torch.where(real, index, self.num_weights)

    @_table
    def in_index(self) -> Tensor:
        """(N, largest_in): each node's input channels, then C_in (one past the end) as padding."""
        _require(
            TABLE_BYTES * self.num_nodes * self.largest_in,
            self.device,
            "one row of indices per node, as long as the largest share,",
        )
        return _share_index(self.in_offsets, self.largest_in, self.in_channels)

    @_table
    def out_index(self) -> Tensor:
        """(C_out,): position of each output channel in the (N * largest_out) padded shares."""
        padded = _share_index(self.out_offsets, self.largest_out, self.out_channels)
        return (padded.flatten() < self.out_channels).nonzero().squeeze(1)


TABLE_BYTES = 24  # per entry of an index table while it is computed: it, a mask and its indices
_REGISTERING = threading.Lock()
if hasattr(os, "register_at_fork"):  # held by a thread that the child does not have, it stays held
    os.register_at_fork(
        before=_REGISTERING.acquire,
        after_in_parent=_REGISTERING.release,
        after_in_child=_REGISTERING.release,
    )
_PLANS: WeakValueDictionary[tuple[str, torch.device], RoundPlan] = WeakValueDictionary()


def find_plan(key: str, device: torch.device) -> RoundPlan | None:
    """The plan with this key on this device, if a layer of this process uses it."""
    return _PLANS.get((key, device))


def _register(plan: RoundPlan) -> RoundPlan:
    """Register ``plan``, unless it was created under tracing and holds no real tensors.

    Returns:
        The plan registered first, where another thread has made an equal one meanwhile.
    """
    if type(plan.source) is not Tensor:
        return plan
    with _REGISTERING:
        return _PLANS.setdefault((plan.key, plan.device), plan)


def _restore(edge_index: Any, in_sizes: Any, out_sizes: Any, device: str) -> RoundPlan:
    """The plan of what :meth:`RoundPlan.__reduce__` gave."""
    edges = torch.from_numpy(edge_index)
    return make_plan(edges, in_sizes.tolist(), out_sizes.tolist()).to(device)


@_untraced
def make_plan(edge_index: Tensor, in_sizes: Sequence[int], out_sizes: Sequence[int]) -> RoundPlan:
    """The plan of a round along ``edge_index``, (2, E) sorted by target and then by source.

    Args:
        edge_index: (2, E) int64, row 0 source, row 1 target, no edge twice.
        in_sizes: N input channels, one number per node.
        out_sizes: N output channels, one number per node.

    Raises:
        InputError: the partitions have different numbers of nodes, a share below 1 or more than
            2^31 - 1 channels, an edge refers to a node outside them, or the edges are not sorted.

    Example:
        >>> import torch
        >>> from mpnn_arch.kernels.plan import make_plan
        >>> edge_index = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])  # node 0 and 1, all edges
        >>> plan = make_plan(edge_index, in_sizes=[2, 1], out_sizes=[3, 3])
        >>> plan.num_weights, plan.in_channels, plan.out_channels
        (18, 3, 6)
    """
    num_nodes = len(in_sizes)
    if len(out_sizes) != num_nodes:
        raise InputError(
            f"the input is shared among {num_nodes} nodes and the output among {len(out_sizes)}; "
            "one round runs on one graph, use the same number of nodes for both"
        )
    edges = edge_index.detach().cpu().numpy().astype(np.int64)
    source, target = edges
    if edges.size and (edges.min() < 0 or edges.max() >= num_nodes):
        raise InputError(
            f"the edge index names node {edges.max()}, but the partitions have {num_nodes} nodes"
        )
    if (np.diff(target * num_nodes + source) <= 0).any():
        raise InputError("the edges must be sorted by target, then by source, without duplicates")

    in_size, out_size = _sizes(in_sizes), _sizes(out_sizes)
    digest = hashlib.sha256(b"round plan")
    for part in (in_size, out_size, edges):
        digest.update(part.astype("<i8").tobytes())
    key = digest.hexdigest()[:32]
    known = find_plan(key, torch.device("cpu"))
    if known is not None:
        return known
    edge_ptr = offsets_of(np.bincount(target, minlength=num_nodes))
    message_ptr = offsets_of(in_size[source])  # where each message's channels start
    fan_in = np.diff(message_ptr[edge_ptr])
    weight_offset = offsets_of(out_size * fan_in)
    plan = RoundPlan(
        source=torch.from_numpy(source.copy()),
        target=torch.from_numpy(target.copy()),
        edge_ptr=torch.from_numpy(edge_ptr),
        in_offsets=torch.from_numpy(offsets_of(in_size)),
        out_offsets=torch.from_numpy(offsets_of(out_size)),
        fan_in=torch.from_numpy(fan_in),
        weight_offset=torch.from_numpy(weight_offset),
        edge_column=torch.from_numpy(message_ptr[:-1] - message_ptr[edge_ptr[target]]),
        num_nodes=num_nodes,
        in_channels=int(in_size.sum()),
        out_channels=int(out_size.sum()),
        num_weights=int(weight_offset[-1]),
        largest_in=int(in_size.max()),
        largest_out=int(out_size.max()),
        key=key,
    )
    return _register(plan)


def _sizes(sizes: Sequence[int]) -> np.ndarray:
    given = np.asarray(sizes, np.int64)
    if not given.size or given.min() < 1 or given.sum() > LARGEST:
        raise InputError(
            f"a round has one share of at least 1 channel per node, and {LARGEST} channels at "
            f"most; these are {given.size} shares, {given.sum()} channels in all"
        )
    return given


def _require(num_bytes: int, device: torch.device, what: str) -> None:
    require_memory(num_bytes, device, what, "use backend='cpu' or 'triton', or fewer channels")


def offsets_of(sizes: np.ndarray) -> np.ndarray:
    """(N,) to (N + 1,) int64: where each of N parts of these sizes begins, and the last ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _share_index(offsets: Tensor, largest: int, past_end: int) -> Tensor:
    index = offsets[:-1, None] + torch.arange(largest, device=offsets.device)
    return torch.where(index < offsets[1:, None], index, past_end)
