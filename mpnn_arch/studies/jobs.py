"""A job: what a worker is given at a time; and the function that trains it, on any machine."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.studies.tasks import StorageError, Task, train_task


@dataclass(frozen=True, kw_only=True)
class Job:
    """Trials that one worker trains.

    Attributes:
        tasks: one for each trial, each under its own lease.
    """

    tasks: tuple[Task, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"tasks": [task.to_dict() for task in self.tasks]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """The job that :meth:`to_dict` gave."""
        return cls(tasks=tuple(Task(**task) for task in values["tasks"]))


def run_job(
    job: Job,
    emit: Callable[[dict[str, Any]], None],
    is_stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a job; return whether the process is fit for another.

    Every trial's last event is ``done``, ``failed``, ``stopped`` or ``storage``. After one that
    raised the process should end, since a failure may have left anything behind; its event has
    ``leaves`` true, and the driver gives that worker no other job.

    Args:
        job: what to train.
        emit: takes events, each with ``is``, and ``id`` and ``lease`` of its trial.
        is_stopping: asked after every epoch.
    """
    for task in job.tasks:
        about = {"id": task.id, "lease": task.lease}

        def send(event: dict[str, Any], about: dict[str, Any] = about) -> None:
            emit({**about, **event})

        try:
            train_task(task, send, is_stopping)
        except Exception as error:
            send({**failure(error), "leaves": True})
            return False
    return True


def failure(error: Exception) -> dict[str, Any]:
    """The last event of a trial that raised."""
    if isinstance(error, StorageError):
        return {"is": "storage", "reason": str(error)}
    if isinstance(error, InputError):
        return {"is": "failed", "reason": str(error), "detail": ""}
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    return {"is": "failed", "reason": reason, "detail": traceback.format_exc()}
