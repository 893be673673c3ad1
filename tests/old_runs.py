"""Run directories as ``mpnn-arch train`` of 0.1.0 wrote them, before it kept a ledger."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import mpnn_arch
from mpnn_arch import graphs as families
from mpnn_arch import models
from mpnn_arch.studies.run_directory import RunDirectory
from mpnn_arch.training.checkpoint import delete_checkpoint, save_checkpoint
from mpnn_arch.training.config import RunConfig
from mpnn_arch.training.data import load_dataset
from mpnn_arch.training.environment import environment
from mpnn_arch.training.inputs import input_settings
from mpnn_arch.training.trainer import EpochMetrics, Trainer

COLUMNS = ("graph", "seed", *(field.name for field in dataclasses.fields(EpochMetrics)))


def write_run(
    folder: Path, config: RunConfig, *, epochs: int | None = None, data_hash: bool = False
) -> RunDirectory:
    """Train in a new run directory, up to ``epochs`` epochs in all."""
    graphs = [families.parse_one(text) for text in config.graphs]
    data = load_dataset(config.dataset).subset(config.train_images, config.test_images)
    for name in ("weights", "checkpoints"):
        (folder / name).mkdir(parents=True)
    content: dict[str, Any] = {
        "run": dataclasses.asdict(config),
        "graph_hashes": [graph.content_hash for graph in graphs],
        "environment": environment(torch.device("cpu")),
    }
    if data_hash:
        content["data_hash"] = data.content_hash
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
    run = RunDirectory.open(folder)
    rows: list[dict[str, Any]] = []
    for seed in config.seeds:
        for place, (text, graph) in enumerate(zip(config.graphs, graphs, strict=True)):
            model = models.build(
                config.model,
                graph,
                seed=seed,
                init=config.init,
                backend=config.backend,
                width_multiplier=config.width_multiplier,
                **input_settings(config.model, data),
            )
            generator = torch.Generator().manual_seed(seed)
            trainer = Trainer(model, data, config.training, generator=generator)
            identity = (
                f"{config.model} on {text} (hash={graph.content_hash[:8]}), {config.dataset}"
                f"[{data.num_train}], seed {seed}, init {config.init}, width "
                f"x {config.width_multiplier}, {config.training.describe()}"
            )
            while not trainer.finished:
                if epochs is not None and len(rows) == epochs:
                    return run
                metrics = dataclasses.asdict(trainer.train_epoch())
                rows.append({"graph": text, "seed": seed, **metrics})
                _write_metrics(run.metrics, rows)
                save_checkpoint(trainer, run.checkpoint(place, seed), identity)
            mpnn_arch.save(model, run.weights(place, seed))
            delete_checkpoint(run.checkpoint(place, seed))
    _write_results(run, config, rows)
    return run


def damage(run: RunDirectory, change: Callable[[dict[str, Any]], object]) -> None:
    """Change ``config.json``."""
    content = json.loads((run.path / "config.json").read_text())
    change(content)
    (run.path / "config.json").write_text(json.dumps(content))


def _write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_results(run: RunDirectory, config: RunConfig, rows: list[dict[str, Any]]) -> None:
    """``results.json``, with what is read from it."""
    results = [
        {"graph": text, "widths": "-".join(map(str, saved.widths)), "parameters": 1}
        for place, text in enumerate(config.graphs)
        for saved in [mpnn_arch.load(run.weights(place, config.seeds[0]))]
    ]
    (run.path / "results.json").write_text(json.dumps(results))
