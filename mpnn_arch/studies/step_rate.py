"""How fast a worker trains: what it runs in the trial of :mod:`mpnn_arch.studies.sizing`."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from mpnn_arch.studies.tasks import Task, make_trainer


def count_steps(
    task: Task,
    seconds: float,
    emit: Callable[[dict[str, Any]], None],
    is_stopping: Callable[[], bool],
) -> None:
    """In a worker: train until asked to stop, and emit the steps of the last ``seconds``."""
    torch.set_num_threads(task.threads)
    _, trainer = make_trainer(task)
    order = torch.arange(min(trainer.config.batch_size, trainer.source.num_train))
    batch = next(iter(trainer.source.train_batches(trainer.config, order, torch.Generator())))
    trainer.model.train()
    with torch.random.fork_rng(devices=[]):
        for _ in range(3):  # backends are selected in the first
            trainer._step(*batch)
        emit({"is": "ready"})
        ends: deque[float] = deque()
        while not is_stopping():
            trainer._step(*batch)
            ends.append(time.monotonic())
            while ends[0] < ends[-1] - seconds:
                ends.popleft()
    emit({"is": "counted", "steps": len(ends), "memory": _largest_memory()})


def _largest_memory() -> int:
    """The most memory that this process has had, in bytes."""
    import resource  # not on Windows, where a study is trained in the calling process

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
