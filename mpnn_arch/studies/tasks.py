"""What a worker is given and what it sends, as JSON; and one trial trained by it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpnn_arch import models
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.files import write_error
from mpnn_arch.io.tensor_file import write_tensors
from mpnn_arch.models.saving import save
from mpnn_arch.rounds import export_choices, import_choices
from mpnn_arch.studies.building import build_model, check_data, data_of
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.graph_names import graph_of
from mpnn_arch.studies.journal import Journal
from mpnn_arch.studies.machine import machine
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.checkpoint import (
    delete_checkpoint,
    has_checkpoint,
    restore,
    save_checkpoint,
)
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import EpochLoop
from mpnn_arch.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trial under one lease, with everything that a worker needs to know.

    Attributes:
        id, lease: of the trial in the ledger, sent back with every result. Lease 0: the trial is
            trained along with others, and its results are not recorded.
        trial: ``Trial.to_dict()``.
        hash: of the trial.
        num_nodes, adjacency: the graph, its bits in hexadecimal.
        epochs_known: epochs that the ledger has.
        until: epochs after which the training ends or waits.
        choices: backends that an earlier attempt selected; None if there was none.
        threads: of torch.
        folder: of the study.
        weights: file name of the trained weights, without its ending; None: they are not saved.
        device: where to train.
        data_root: folder of downloaded data, or None.
        cuda_graphs: whether a step is one CUDA graph.
    """

    id: int
    lease: int
    trial: dict[str, Any]
    hash: str
    num_nodes: int
    adjacency: str
    epochs_known: int
    until: int
    choices: dict[str, dict[str, str]] | None
    threads: int
    folder: str
    weights: str | None
    device: str
    data_root: str | None
    cuda_graphs: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def checkpoint(self) -> Path:
        """The training under way."""
        return Path(self.folder) / "checkpoints" / f"{self.hash}.safetensors"

    @property
    def journal(self) -> Path:
        """Its epochs."""
        return Path(self.folder) / "checkpoints" / f"{self.hash}.epochs"

    def make_graph(self) -> RelationalGraph:
        """The graph from its bits."""
        return graph_of(self.num_nodes, bytes.fromhex(self.adjacency))


class StorageError(Exception):
    """The study's folder cannot be read or written; no fault of the trial's."""


def make_model(task: Task) -> tuple[Trial, Any, ImageDataset | ImageFolder]:
    """The trial of ``task``, its untrained model and its data.

    Raises:
        InputError: something that the trial names is gone or was changed.
    """
    trial = Trial.from_dict(task.trial)
    graph = task.make_graph()
    if graph.content_hash != trial.graph_hash:
        raise InputError(f"the graph {trial.graph!r} was changed in the ledger; restore the ledger")
    data, found = data_of(trial, task.data_root)
    check_data(trial.dataset, found, trial.data_hash)
    return trial, build_model(trial, graph, data), data


def make_trainer(task: Task) -> tuple[Trial, Trainer]:
    """The trial of ``task`` before its first epoch, on the task's backends.

    Raises:
        InputError: something that the trial names is gone or was changed.
    """
    trial, model, data = make_model(task)
    if task.choices:
        import_choices(model, task.choices)
    generator = torch.Generator().manual_seed(trial.seed)
    trainer = Trainer(
        model,
        data,
        trial.recipe,
        generator=generator,
        device=task.device,
        cuda_graphs=task.cuda_graphs,
    )
    return trial, trainer


def train_task(
    task: Task,
    emit: Callable[[dict[str, Any]], None],
    is_stopping: Callable[[], bool] = lambda: False,
    make: Callable[[Task], tuple[Trial, Trainer]] = make_trainer,
) -> None:
    """Train a trial to its end or rung, or on from its checkpoint, and emit what happens.

    After every epoch, in this order: the epoch is written into the journal, the checkpoint is
    written, the epoch is emitted. A continuation emits again what the ledger lacks, so that an
    epoch whose checkpoint is written is never trained twice.

    Args:
        task: the trial and its lease.
        emit: takes an event: a dictionary with ``is`` (started, epoch, note, stopped, waiting,
            done).
        is_stopping: asked after every epoch; if true the training ends with ``stopped``.
        make: makes the trial and its trainer; called again if the checkpoint is of no use.

    Raises:
        InputError: the trial cannot be trained, or diverged.
        StorageError: the folder cannot be read or written.
    """
    crash_point("worker.received")
    torch.set_num_threads(task.threads)
    _, trainer = make(task)
    journal = Journal(task.journal)
    try:
        with in_folder(task.checkpoint):
            past = _continued(task, trainer, journal)
    except InputError as error:
        emit({"is": "note", "text": str(error)})
        with in_folder(task.checkpoint):
            delete_checkpoint(task.checkpoint)
        (_, trainer), past = make(task), []
    choices = export_choices(trainer.model)
    emit({"is": "started", **about_model(task, trainer.model, trainer, choices)})
    sent: Mapping[str, Any] | None = None
    for entry in past:
        if entry["metrics"]["epoch"] > task.epochs_known:
            emit({"is": "epoch", **entry})
    said = 0
    while trainer.epoch < task.until:
        start = time.perf_counter()
        metrics = trainer.train_epoch().__dict__
        for note in trainer.notes[said:]:
            emit({"is": "note", "text": note})
            said += 1
        crash_point("epoch.trained")
        choices = export_choices(trainer.model)
        entry = {"metrics": dict(metrics), "wall": time.perf_counter() - start}
        with in_folder(task.checkpoint):
            journal.append(entry)
            save_checkpoint(trainer, task.checkpoint, task.hash)
            crash_point("checkpoint.written", task.checkpoint)
        new = choices if choices != sent else None
        emit({"is": "epoch", **entry, "choices": new, **pace(trainer, metrics["seconds"])})
        sent = choices
        crash_point("epoch.sent")
        if trainer.epoch < task.until and is_stopping():
            emit({"is": "stopped"})
            return
    if not trainer.finished:
        emit({"is": "waiting"})
        return
    save_weights(task, trainer.trained_model())
    emit({"is": "done"})
    crash_point("result.sent")


def pace(loop: EpochLoop, seconds: float) -> dict[str, float]:
    """How quick an epoch was: images a second, as an entry of its event."""
    images = min(loop.source.num_train, loop.steps_per_epoch * loop.config.batch_size)
    return {"images_per_second": images / max(seconds, 1e-9)}


def save_weights(task: Task, model: nn.Module) -> None:
    """Write the trained model, if the study keeps it.

    Raises:
        StorageError: it cannot be written.
    """
    if task.weights is None:
        return
    path = Path(task.folder) / "weights" / f"{task.weights}.safetensors"
    with in_folder(path):
        _save_weights(model, path)
        crash_point("weights.written")


@contextmanager
def in_folder(path: Path) -> Iterator[None]:
    """What the system says of a file of the study is no fault of the trial's.

    Args:
        path: the file, for an error that does not name it.

    Raises:
        StorageError: in place of any ``OSError``.
    """
    try:
        yield
    except OSError as error:
        told = error if isinstance(error, InputError) else write_error(path, error)
        raise StorageError(str(told)) from error


def _continued(task: Task, trainer: Trainer, journal: Journal) -> list[dict[str, Any]]:
    """Bring the trainer to its checkpoint, if there is one; return the epochs so far."""
    if not has_checkpoint(task.checkpoint):
        journal.clear()
        return []
    restore(trainer, task.checkpoint, task.hash)
    return journal.read_since(task.epochs_known, trainer.epoch, "the trial")


def about_model(
    task: Task, model: Any, loop: EpochLoop, choices: Mapping[str, Any]
) -> dict[str, Any]:
    """What a worker says of a training when it begins."""
    try:
        cost: int | None = models.complexity(model, loop.dataset.image_shape).multiply_adds
    except Exception:  # a model of the user's own that cannot be counted is trained all the same
        cost = None
    return {
        "machine": {
            **machine(loop.device),
            "processes": loop.processes_text,
            "cuda_graphs": task.cuda_graphs,  # rounds differently, as another device does
        },
        "threads": task.threads,
        "choices": choices,
        "widths": list(getattr(model, "widths", ())),
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": cost,
    }


def _save_weights(model: nn.Module, path: Path) -> None:
    try:
        save(model, path)
    except InputError:  # a model of the user's own; a path that cannot be written raises again
        write_tensors(path, model.state_dict(), {}, kind="mpnn_arch state 1")


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as bytes; NaN and infinite numbers are kept."""
    return json.dumps(message).encode()


def decode(raw: bytes) -> dict[str, Any]:
    """The message that :func:`encode` made."""
    made: dict[str, Any] = json.loads(raw)
    return made
