"""Trials that are trained by all processes of ``torchrun`` together.

Rank 0 is the driver of the study. It broadcasts commands to the others: make the trainer of a task,
train an epoch, end; :func:`follow` carries them out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.rounds import import_choices
from mpnn_arch.studies.jobs import Job, failure
from mpnn_arch.studies.queue_pool import QueuePool, lost
from mpnn_arch.studies.tasks import Task, make_model, train_task
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.distributed import DistributedTrainer
from mpnn_arch.training.loop import DivergedError, EpochMetrics
from mpnn_arch.training.processes import Processes


class RanksPool(QueuePool):
    """One worker: the whole group. Trials are trained one after another, by a thread of rank 0.

    Args:
        processes: entered; this is rank 0.
        parallel: see :class:`~mpnn_arch.training.distributed.DistributedTrainer`.
    """

    size = 1

    def __init__(self, processes: Processes, parallel: str) -> None:
        super().__init__("torchrun")
        self._processes, self._parallel = processes, parallel
        self._killed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """The group; return its name.

        Raises:
            InputError: a process of it has ended.
        """
        if not self._processes.in_step:
            raise InputError(
                "a process of torchrun's group failed; give the same command again (torchrun "
                "--max-restarts does): what is recorded stays"
            )
        return self._new_name()

    def submit(self, worker: str, job: Job) -> None:
        """Train a job in a thread; that of the job before has sent its last event."""
        if self._thread is not None:
            self._thread.join()
        self._thread = threading.Thread(target=self._train, args=(worker, job), daemon=True)
        self._thread.start()

    def _train(self, worker: str, job: Job) -> None:
        self._processes.bind()
        for task in job.tasks:
            about = {"id": task.id, "lease": task.lease}

            def send(event: dict[str, Any], about: dict[str, Any] = about) -> None:
                self.put(worker, {**about, **event})

            try:
                train_task(task, send, self._stopping.is_set, make=self._make)
            except _OutOfStepError as error:
                if not self._killed.is_set():
                    self.put(worker, lost(f"a process of torchrun's group failed: {error}"))
                return
            except Exception as error:  # on all processes alike, or where the others only wait
                send(failure(error))

    def _make(self, task: Task) -> tuple[Trial, DistributedTrainer]:
        self._processes.broadcast({"do": "make", "task": task.to_dict(), "how": self._parallel})
        return _make(task, self._processes, self._parallel, self._killed.is_set)

    def stop(self) -> None:
        """End the job after the epoch in flight."""
        self._stopping.set()

    def _end(self, workers: Sequence[str]) -> None:
        """Cut off the epoch in flight; the others cannot know, and end when this process does."""
        if workers and self._thread is not None and self._thread.is_alive():
            self._processes.in_step = False
            self._killed.set()
            self._thread.join(1.0)

    def close(self) -> None:
        """Wait for the thread, if it was not cut off."""
        if self._thread is not None and not self._killed.is_set():
            self._thread.join()
        self._thread = None


class _OutOfStepError(Exception):
    """An epoch ended on some processes and not on others."""


class _Led(DistributedTrainer):
    """Rank 0's trainer, which broadcasts the command for an epoch before it trains it."""

    def train_epoch(self) -> EpochMetrics:
        try:
            self.processes.broadcast({"do": "epoch"})
            return super().train_epoch()
        except DivergedError:
            raise  # everywhere
        except (Exception, KeyboardInterrupt) as error:
            self.processes.in_step = False
            raise _OutOfStepError(f"{type(error).__name__}: {error}") from error


def _make(
    task: Task,
    processes: Processes,
    parallel: str,
    is_killed: Callable[[], bool] = lambda: False,
) -> tuple[Trial, DistributedTrainer]:
    """The trial of ``task`` before its first epoch, on every process.

    Raises:
        InputError: it could not be made on one of them.
    """
    torch.set_num_threads(task.threads)
    trial, model, data = processes.together(lambda: make_model(task))
    if task.choices:
        import_choices(model, task.choices)
    trainer = (_Led if processes.leads else DistributedTrainer)(
        model,
        data,
        trial.recipe,
        generator=torch.Generator().manual_seed(trial.seed),
        device=processes.device(task.device),
        processes=processes,
        parallel=parallel,
        is_stopping=is_killed,
    )
    return trial, trainer


def follow(processes: Processes) -> None:
    """What every process but rank 0 does, until rank 0 is through.

    Args:
        processes: entered.

    Raises:
        InputError: this process cannot go on, as with an image that is damaged.
        RuntimeError: another process has ended.
    """
    trainer: DistributedTrainer | None = None
    while True:
        command: dict[str, Any] = processes.broadcast()
        if command["do"] == "end":
            return
        if command["do"] == "make":
            trainer = None
            try:
                _, trainer = _make(Task(**command["task"]), processes, command["how"])
            except InputError:
                continue  # raised on all processes; rank 0 says it
        elif trainer is not None:
            try:
                trainer.train_epoch()
            except DivergedError:
                continue  # likewise
