"""A job: what a worker is given at a time; and the function that trains it, on any machine."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.studies.step_rate import count_steps
from mpnn_arch.studies.tasks import StorageError, Task, train_task
from mpnn_arch.studies.together import train_together

LAST = ("done", "failed", "storage", "stopped", "waiting")
"""Events after which a worker has their trial no longer."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one worker trains: a trial, or a population of trials side by side.

    Attributes:
        tasks: one for each trial, each under its own lease.
        population: hash of the population that they are, or None.
        trial_seconds: if given, nothing is recorded: the first task's steps are counted until the
            worker is stopped, see :func:`mpnn_arch.studies.step_rate.count_steps`.
    """

    tasks: tuple[Task, ...]
    population: str | None = None
    trial_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """The job that :meth:`to_dict` gave."""
        tasks = tuple(Task(**task) for task in values["tasks"])
        return cls(**{**values, "tasks": tasks})


def run_job(
    job: Job,
    emit: Callable[[dict[str, Any]], None],
    is_stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a job; return whether the process is fit for another.

    Every trial's last event is ``done``, ``failed``, ``waiting``, ``stopped`` or ``storage``. After
    an exception the process should end, since a failure may have left anything behind; the last
    event has ``leaves`` true, and the driver gives that worker no other job.

    Args:
        job: what to train.
        emit: takes events, each with ``is``, and ``id`` and ``lease`` of its trial.
        is_stopping: asked after every epoch.
    """
    is_trial = job.trial_seconds is not None
    held = {place: task for place, task in enumerate(job.tasks) if task.lease or is_trial}

    def send(place: int, event: dict[str, Any]) -> None:
        task = held[place]
        if event["is"] in LAST:
            del held[place]
        emit({"id": task.id, "lease": task.lease, **event})

    try:
        if job.trial_seconds is not None:
            count_steps(job.tasks[0], job.trial_seconds, partial(send, 0), is_stopping)
        elif job.population is not None:
            train_together(job.tasks, job.population, send, is_stopping)
        else:
            for place, task in list(held.items()):
                train_task(task, partial(send, place), is_stopping)
    except Exception as error:
        said = failure(error)
        for place in list(held):
            send(place, {**said, "leaves": len(held) == 1})
        return False
    return True


def failure(error: Exception) -> dict[str, Any]:
    """The last event of a trial that raised."""
    if isinstance(error, StorageError):
        return {"is": "storage", "reason": str(error)}
    if isinstance(error, InputError):
        return {"is": "failed", "reason": str(error), "detail": ""}
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if reason == "MemoryError:":  # Python's own says no more
        reason += " there is not enough memory; take fewer workers, or a smaller batch or model"
    return {"is": "failed", "reason": reason, "detail": traceback.format_exc()}
