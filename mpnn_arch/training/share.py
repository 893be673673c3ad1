"""Which images of every batch this process trains on, where several train one network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The part of one process in every batch.

    Images stay in their order: process ``rank`` of W takes the ``rank``-th of W runs of
    neighbours, the first (B mod W) of which hold one image more. A batch smaller than W leaves
    the last processes without any.

    Attributes:
        rank: number of the process, from 0.
        world_size: W, the number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def of(self, batch: int) -> slice:
        """The places of this process's images in a batch of so many."""
        each, more = divmod(batch, self.world_size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))


def in_words(world_size: int, parallel: str) -> str:
    """How many processes train one network, and how, for checkpoints and messages."""
    return "1 process" if world_size == 1 else f"{world_size} processes ({parallel})"


WHOLE = Share()
"""Everything: the share of a process that trains alone."""
