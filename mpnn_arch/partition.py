"""How a layer's channels are shared among the nodes of a relational graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np

from mpnn_arch.checks import check_bytes, counted, shown, whole_number
from mpnn_arch.errors import InputError

Order = Literal["first", "published", "given"]

# A partition lists its nodes; a hundred million is a list of a gigabyte.
LARGEST_NODES = 2**27


@dataclass(frozen=True, init=False)
class ChannelPartition:
    """A split of ``num_channels`` contiguous channels into one share per node.

    Paper, section 2.3: of m channels over n nodes, (m mod n) nodes hold floor(m/n) + 1 channels
    and the others floor(m/n). Node 0 holds the first channels, node 1 the next, and so on.

    Args:
        num_channels: m, the width of the layer.
        num_nodes: n, the nodes of the relational graph.
        order: which nodes hold the larger shares. ``"first"``: nodes 0 .. (m mod n) - 1.
            ``"published"``: as in the paper's own runs, whose list of sizes was shuffled by
            ``numpy.random.RandomState(1).permutation``; the published widths depend on it.

    Raises:
        InputError: no whole numbers, fewer channels than nodes, or an unknown order.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.3.

    Example:
        >>> from mpnn_arch import ChannelPartition
        >>> partition = ChannelPartition(num_channels=65, num_nodes=4)
        >>> partition.sizes, partition.offsets
        ((17, 16, 16, 16), (0, 17, 33, 49, 65))
    """

    sizes: tuple[int, ...]
    order: Order

    def __init__(self, num_channels: int, num_nodes: int, order: Order = "first") -> None:
        num_channels = whole_number("the number of channels", num_channels)
        num_nodes = whole_number("the number of nodes", num_nodes, LARGEST_NODES)
        if num_channels < num_nodes:
            raise InputError(
                f"{counted(num_channels, 'channel')} cannot be shared among {num_nodes} nodes, "
                f"each needs at least one: use {num_nodes} channels or more, or a graph of fewer "
                "nodes"
            )
        if not isinstance(order, str):
            raise InputError(f"there is no partition order {shown(order)}; choose 'first'")
        check_bytes(f"a partition over {num_nodes:,} nodes", 40 * num_nodes, "use fewer nodes")
        small, larger = divmod(num_channels, num_nodes)
        sizes = [small + 1] * larger + [small] * (num_nodes - larger)
        if order == "published":
            # A private RandomState: the stream is part of the published recipe, and numpy's
            # global state stays untouched.
            sizes = np.random.RandomState(1).permutation(sizes).tolist()
        elif order != "first":
            raise InputError(
                f"there is no partition order {shown(order)}; choose 'first' or 'published', "
                "or pass the sizes to ChannelPartition.from_sizes"
            )
        object.__setattr__(self, "sizes", tuple(sizes))
        object.__setattr__(self, "order", order)

    @classmethod
    def from_sizes(cls, sizes: Sequence[int]) -> ChannelPartition:
        """The partition with exactly these shares, node by node.

        Raises:
            InputError: no shares, or a share that is no integer of at least 1.
        """
        try:
            given = None if isinstance(sizes, str | bytes) else list(sizes)
        except TypeError:  # a number, or a tensor without dimensions
            given = None
        if given is None:
            raise InputError(f"the shares are a list of integers, one per node, not {shown(sizes)}")
        shares = tuple(whole_number("every node's share", size) for size in given)
        if not shares:
            raise InputError("a partition needs at least one share, none was given")
        whole_number("the sum of all shares", sum(shares))
        partition = cls.__new__(cls)
        object.__setattr__(partition, "sizes", shares)
        object.__setattr__(partition, "order", "given")
        return partition

    @property
    def num_nodes(self) -> int:
        """Number of shares."""
        return len(self.sizes)

    @property
    def num_channels(self) -> int:
        """Sum of the shares."""
        return self.offsets[-1]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first channel of each share, then the end of the last: (num_nodes + 1,)."""
        return tuple(accumulate(self.sizes, initial=0))

    @property
    def largest(self) -> int:
        """Channels of the largest share."""
        return max(self.sizes)

    def __len__(self) -> int:
        return self.num_nodes

    def __repr__(self) -> str:
        low, high = min(self.sizes), max(self.sizes)
        shares = f"{low}" if low == high else f"{low}..{high}"
        return (
            f"ChannelPartition({self.num_channels} channels over {self.num_nodes} nodes, "
            f"{shares} each, order={self.order!r})"
        )
