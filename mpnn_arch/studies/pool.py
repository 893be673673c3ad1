"""What a runner of studies has to do: carry jobs to workers and events back.

The driver (:mod:`mpnn_arch.studies.runner`) leases trials, decides what is trained next and writes
down what comes back. A pool connects it with the workers, on this machine or on others; it decides
nothing about trials and never opens the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mpnn_arch.studies.jobs import Job

Events = list[tuple[str, dict[str, Any]]]
"""Events with the name of the worker that sent each, in the order in which it sent them."""


class Pool(Protocol):
    """Workers that train jobs.

    A worker runs :func:`mpnn_arch.studies.jobs.run_job` and sends what that emits; after an event
    with ``leaves`` true it is not used again. Where a worker ended without one, the pool gives an
    event of its own: ``{"is": "lost", "reason": ..., "began": ...}``, ``reason`` in words for the
    ledger, ``began`` false if it ended before it was ready for a job. A worker is lost when its
    process is known to have ended, and by no other sign: one that is only late may still train.
    """

    @property
    def size(self) -> int:
        """How many workers there may be at a time; it may change while a study runs."""
        ...

    def start(self) -> str:
        """A new worker; return its name, which no other worker of any driver has.

        Raises:
            InputError: workers cannot be started.
        """
        ...

    def submit(self, worker: str, job: Job) -> None:
        """Give a job to a worker that has none. One that has just died is reported by `take`."""
        ...

    def take(self, seconds: float) -> Events:
        """What has come in, after waiting for anything at most so long."""
        ...

    def stop(self) -> None:
        """Ask all workers to end their jobs after the epoch in flight."""
        ...

    def kill(self, workers: Sequence[str]) -> Events:
        """End these workers at once; return what they had sent and was not taken yet."""
        ...

    def close(self) -> None:
        """End all workers; the pool is not used again."""
        ...
