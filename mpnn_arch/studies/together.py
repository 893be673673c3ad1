"""A population of trials, trained side by side by one worker, stopped and continued as a unit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.journal import Journal
from mpnn_arch.studies.tasks import Task, about_model, in_folder, make_model, pace, save_weights
from mpnn_arch.training.checkpoint import (
    delete_checkpoint,
    has_checkpoint,
    restore,
    save_checkpoint,
)
from mpnn_arch.training.population import Population

Emit = Callable[[int, dict[str, Any]], None]
"""Takes the place of a member and an event of its trial."""


def make_population(tasks: Sequence[Task]) -> Population:
    """The members before their first epoch.

    Args:
        tasks: of all members in order, with one seed and one recipe.

    Raises:
        InputError: something that a trial names is gone or was changed, or they do not fit
            together.
    """
    made = [make_model(task) for task in tasks]
    trial, _, data = made[0]
    return Population(
        [model for _, model, _ in made],
        data,
        trial.recipe,
        generator=torch.Generator().manual_seed(trial.seed),
        device=tasks[0].device,
    )


def train_together(
    tasks: Sequence[Task], name: str, emit: Emit, is_stopping: Callable[[], bool]
) -> None:
    """Train a population to its end, or on from its checkpoint, and emit what happens.

    There is one checkpoint and one journal for all. After every epoch the order is that of
    :func:`~mpnn_arch.studies.tasks.train_task`: journal, checkpoint, events. A member whose loss is
    no longer finite gets ``failed``, which is final, and the others go on.

    Args:
        tasks: of all members in order; those with lease 0 are trained along without events, so
            that the others have the bits that they had from the start.
        name: of the checkpoint: the population's hash.
        emit: takes events.
        is_stopping: asked after every epoch.

    Raises:
        InputError: as for :func:`make_population`.
        StorageError: the folder cannot be read or written.
    """
    crash_point("worker.received")
    torch.set_num_threads(tasks[0].threads)
    asked = {place: task for place, task in enumerate(tasks) if task.lease}
    folder = Path(tasks[0].folder) / "checkpoints"
    checkpoint, journal = folder / f"{name}.safetensors", Journal(folder / f"{name}.epochs")
    population = make_population(tasks)
    try:
        with in_folder(checkpoint):
            past = _continued(population, asked, checkpoint, journal, name)
    except InputError as error:
        emit(next(iter(asked)), {"is": "note", "text": str(error)})
        with in_folder(checkpoint):
            delete_checkpoint(checkpoint)
            journal.clear()
        population, past = make_population(tasks), []
    choices = {"population": {f"{len(tasks)} side by side": _backend(population)}}
    for place, task in asked.items():
        about = about_model(task, population.members[place], population, choices)
        emit(place, {"is": "started", **about})
    reported: set[int] = set()

    def report(entry: dict[str, Any], known: bool) -> None:
        for place, task in asked.items():
            metrics = entry["members"].get(str(place))
            if metrics and not (known and metrics["epoch"] <= task.epochs_known):
                event = {"is": "epoch", "metrics": metrics, "wall": entry["wall"]}
                emit(place, {**event, **pace(population, metrics["seconds"])})

    def report_diverged() -> None:
        for place in sorted(population.diverged.keys() & asked.keys() - reported):
            reported.add(place)
            reason = population.diverged[place]
            emit(place, {"is": "failed", "reason": reason, "detail": "", "final": True})

    for entry in past:
        report(entry, known=True)
    report_diverged()
    while not population.finished:
        start = time.perf_counter()
        metrics = population.train_epoch()
        crash_point("epoch.trained")
        entry = {
            "metrics": {"epoch": population.epoch},
            "members": {str(place): own.__dict__ for place, own in metrics.items()},
            "wall": (time.perf_counter() - start) / max(1, len(metrics)),
        }
        with in_folder(checkpoint):
            journal.append(entry)
            if population.active:
                save_checkpoint(population, checkpoint, name)
                crash_point("checkpoint.written", checkpoint)
        report(entry, known=False)
        report_diverged()
        crash_point("epoch.sent")
        if not population.finished and is_stopping():
            for place in sorted(asked.keys() - reported):
                emit(place, {"is": "stopped"})
            return
    population.release()
    for place, task in asked.items():
        if place not in reported:
            save_weights(task, population.members[place])
            emit(place, {"is": "done"})
            crash_point("result.sent")


def _backend(population: Population) -> str:
    return population.model.pickers[0].backend


def _continued(
    population: Population,
    asked: dict[int, Task],
    checkpoint: Path,
    journal: Journal,
    name: str,
) -> list[dict[str, Any]]:
    """Bring the population to its checkpoint, if there is one; return the epochs so far."""
    if not has_checkpoint(checkpoint):
        journal.clear()
        return []
    restore(cast(Any, population), checkpoint, name)
    known = min(task.epochs_known for task in asked.values())
    return journal.read_since(known, population.epoch, "the population")
