"""A run directory of an earlier ``mpnn-arch train`` made a study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mpnn_arch import models
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.files import sync
from mpnn_arch.io.lock import FolderLock
from mpnn_arch.io.temporary import sweep, temporary_folder
from mpnn_arch.models.saving import read_saved
from mpnn_arch.rounds import export_choices
from mpnn_arch.studies.building import build_model, data_of
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.metrics import MetricsRow
from mpnn_arch.studies.plan import plan
from mpnn_arch.studies.recording import weights_name
from mpnn_arch.studies.run_directory import RunDirectory
from mpnn_arch.studies.run_ledger import Graphs, Place, fill_ledger, places_of, study_config
from mpnn_arch.studies.study import Study, description
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.checkpoint import (
    delete_checkpoint,
    has_checkpoint,
    restore,
    save_checkpoint,
)
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.environment import check_environment, environment
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.own_data import is_function_name
from mpnn_arch.training.trainer import Trainer


def adopt(
    path: str | Path,
    *,
    device: torch.device | str,
    data_root: str | Path | None = None,
    trust: bool = False,
    named: str | None = None,
) -> Study:
    """Make a run directory a study: what is finished stays, what was begun goes on to its bits.

    Its weights and checkpoints get the names that they have in a study; ``study.json`` is written
    when all else is, so that after a stop the same call does the rest. ``config.json`` stays.

    Args:
        path: the run directory.
        device: on which it goes on.
        data_root: see :func:`mpnn_arch.training.data.load_dataset`.
        trust: run the function that gives its data set.
        named: the data set that the user named; if it is the run's, that is trust too.

    Raises:
        InputError: a file of the run that is damaged or of another run, another process that holds
            it, or an environment with which the bits would change.
    """
    run = RunDirectory.open(path)
    config = study_config(run.config)
    if is_function_name(config.dataset) and not (trust or named == config.dataset):
        raise InputError(
            f"{run.path} trains on what the function {config.dataset} returns, and code is only "
            f"run where it is named; add --dataset {config.dataset}"
        )
    with FolderLock(run.path / "lock", f"the run directory {run.path}"):
        for folder in (run.path, run.path / "weights", run.path / "checkpoints"):
            folder.mkdir(exist_ok=True)
            sweep(folder, old_names=True)
        return _adopt(run, config, torch.device(device), data_root)


def _adopt(
    run: RunDirectory, config: StudyConfig, device: torch.device, data_root: str | Path | None
) -> Study:
    rows = run.checked_metrics()
    _, trials = plan(config, data_root)
    by_spec = {spec: expand([spec]) for spec in config.graphs}
    places = places_of(run, by_spec, trials)
    data = _data(run, trials[0], data_root)
    if run.environment is not None and not run.is_finished:
        check_environment(str(run.path), run.environment, environment(device))
    done = [place for place in places if run.weights(*place).exists()]
    for place in done:
        run.check_finished(rows, *place)
    begun = {
        place: _restored(run, place, places[place], by_spec, data, rows, device)
        for place in places
        if place not in done and has_checkpoint(run.checkpoint(*place))
    }
    until = {place: trainer.epoch for place, trainer in begun.items()}
    kept = [
        row
        for row in rows
        for place in [(config.graphs.index(row.graph), row.seed)]
        if place in done or row.epoch <= until.get(place, 0)
    ]

    def about(place: Place, trial: Trial) -> dict[str, Any]:
        model = build_model(trial, _graph(by_spec, run, place), data, device="meta")
        if place in begun:
            choices = export_choices(begun[place].model)
        else:
            choices = dict(read_saved(run.weights(*place)).backend_choices)
        return {
            "choices": choices,
            "widths": list(model.widths),
            "parameters": sum(p.numel() for p in model.parameters()),
            "multiply_adds": models.complexity(model, data.image_shape).multiply_adds,
        }

    for place, trainer in begun.items():
        hash = places[place].hash
        save_checkpoint(trainer, run.path / "checkpoints" / f"{hash}.safetensors", hash)
    with temporary_folder(run.path) as own:
        file = own / "ledger.sqlite"
        fill_ledger(file, run, places, by_spec, kept, about, done)
        with Ledger(file) as ledger:
            for place in done:
                row = ledger.find_trial(places[place].hash)
                _second_name(run.weights(*place), f"{weights_name(row)}.safetensors")
        os.replace(file, run.path / "ledger.sqlite")
    sync(run.path)
    study = Study(run.path, description(config, trials, "train"))
    study.describe(run.path)
    for place in places:
        run.weights(*place).unlink(missing_ok=True)
        delete_checkpoint(run.checkpoint(*place))
    return study


def _graph(by_spec: Graphs, run: RunDirectory, place: Place) -> RelationalGraph:
    (graph,) = by_spec[run.config.graphs[place[0]]].values()
    return graph


def _data(
    run: RunDirectory, trial: Trial, data_root: str | Path | None
) -> ImageDataset | ImageFolder:
    data, found = data_of(trial, data_root)
    if run.data_hash is not None and isinstance(data, ImageDataset) and run.data_hash != found:
        raise InputError(
            f"{run.path} was started on other images or labels of {run.config.dataset!r} "
            f"(hash={run.data_hash[:8]}, now {found[:8]}); restore them, or start a new run"
        )
    return data


def _restored(
    run: RunDirectory,
    place: Place,
    trial: Trial,
    by_spec: Graphs,
    data: ImageDataset | ImageFolder,
    rows: Sequence[MetricsRow],
    device: torch.device,
) -> Trainer:
    """A training where its checkpoint left it."""
    config, graph = run.config, _graph(by_spec, run, place)
    trainer = Trainer(
        build_model(trial, graph, data),
        data,
        config.training,
        generator=torch.Generator().manual_seed(trial.seed),
        device=device,
    )
    # What such a checkpoint says of the training that it belongs to.
    identity = (
        f"{config.model} on {config.graphs[place[0]]} (hash={graph.content_hash[:8]}), "
        f"{config.dataset}[{data.num_train}], seed {trial.seed}, init {config.init}, width "
        f"x {config.width_multiplier}, {config.training.describe()}"
    )
    restore(trainer, run.checkpoint(*place), identity)
    run.check_epochs(rows, *place, trainer.epoch)
    return trainer


def _second_name(path: Path, name: str) -> None:
    """Give a file a second name; the first goes when ``study.json`` is written."""
    other = path.with_name(name)
    try:
        os.link(path, other)
    except FileExistsError:
        pass
    except OSError:
        shutil.copy2(path, other)  # a file system without hard links
