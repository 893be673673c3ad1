"""One model on several graphs at equal cost, each trained with several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mpnn_arch
from mpnn_arch import graphs as graph_families
from mpnn_arch import models
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.training.checkpoint import (
    delete_checkpoint,
    has_checkpoint,
    how_to_restart,
    load_checkpoint,
    save_checkpoint,
)
from mpnn_arch.training.config import RunConfig
from mpnn_arch.training.data import DATASETS, ImageDataset, load_dataset
from mpnn_arch.training.environment import check_environment, environment
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.inputs import input_settings
from mpnn_arch.training.plot import plot_run
from mpnn_arch.training.run_directory import MetricsRow, RunDirectory
from mpnn_arch.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class GraphResult:
    """The result of one graph.

    Attributes:
        graph: its specification.
        clustering_coefficient: C.
        average_path_length: L.
        widths: channels of each stage, matched to the dense model's multiply-adds.
        parameters: weights, biases and norms.
        multiply_adds: of one image.
        test_error_mean: percent after the last epoch, over the seeds.
        test_error_deviation: sample standard deviation over the seeds; None for a single seed.
        seconds_per_epoch: median over seeds and epochs, evaluation not counted.
    """

    graph: str
    clustering_coefficient: float
    average_path_length: float
    widths: tuple[int, ...]
    parameters: int
    multiply_adds: int
    test_error_mean: float
    test_error_deviation: float | None
    seconds_per_epoch: float

    def to_dict(self) -> dict[str, Any]:
        """For ``results.json`` and ``results.csv``."""
        return {**self.__dict__, "widths": "-".join(str(width) for width in self.widths)}


def parse_graphs(specifications: Sequence[str]) -> list[RelationalGraph]:
    """One graph for each specification.

    Raises:
        InputError: a specification that names no graph, or several.
    """
    graphs = []
    for text in specifications:
        found = graph_families.parse(text)
        if len(found) != 1:
            raise InputError(
                f"the graph {text!r} names {len(found)} graphs, but a training takes one; "
                "list them one by one"
            )
        graphs.append(found[0])
    return graphs


def build_model(
    config: RunConfig,
    graph: RelationalGraph,
    data: ImageDataset | ImageFolder,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Any:
    """The model of ``config`` for the images of ``data``, its widths matched to the dense one's.

    On the device ``"meta"`` it has shapes but no weights.

    Raises:
        InputError: no such model, or the graph or the images do not fit it.
    """
    fields = {
        **input_settings(config.model, data),
        "width_multiplier": config.width_multiplier,
        "init": config.init,
        "backend": config.backend,
    }
    return models.build(config.model, graph, seed=seed, device=device, **fields)


def start_run(path: str | Path, config: RunConfig, *, data_root: str | Path | None) -> RunDirectory:
    """Create the run directory, after checking that the model, data and graphs of ``config`` fit.

    Raises:
        InputError: an unknown name, a graph or data that the model does not fit, or a run directory
            that exists.
    """
    graphs = parse_graphs(config.graphs)
    data = _load_data(config, data_root)
    for graph in graphs:
        build_model(config, graph, data, device="meta")
    # A user's own files change; those of a named set are the published ones.
    data_hash = None if config.dataset in DATASETS else _content_hash(data)
    return RunDirectory.create(path, config, [graph.content_hash for graph in graphs], data_hash)


def train_run(
    run: RunDirectory,
    *,
    device: torch.device,
    data_root: str | Path | None = None,
    watch: Callable[[MetricsRow], None] = lambda row: None,
) -> list[GraphResult]:
    """Train the unfinished models of a run, then write its results and its figure.

    Metrics and a checkpoint are written after every epoch; an interrupted run resumes after its
    last complete epoch and gives the same bits.

    Args:
        run: new or interrupted.
        device: where to train.
        data_root: see :func:`mpnn_arch.training.data.load_dataset`.
        watch: called after every epoch.

    Raises:
        InputError: a file of the run that is damaged or of another run, another process that trains
            it, an environment with which the bits would change, or a loss that diverges.
    """
    with run.writing():
        return _train_all(run, device, data_root, watch)


def _train_all(
    run: RunDirectory,
    device: torch.device,
    data_root: str | Path | None,
    watch: Callable[[MetricsRow], None],
) -> list[GraphResult]:
    config = run.config
    graphs = parse_graphs(config.graphs)
    for text, graph, digest in zip(config.graphs, graphs, run.graph_hashes, strict=True):
        if graph.content_hash != digest:
            raise InputError(
                f"{run.path} was started on another graph {text!r} (hash={digest[:8]}, now "
                f"{graph.content_hash[:8]}); restore the graph, or start a new run"
            )
    data = _load_data(config, data_root)
    data_hash = _content_hash(data)
    if run.data_hash is not None and data_hash is not None and run.data_hash != data_hash:
        raise InputError(
            f"{run.path} was started on other images or labels of {config.dataset!r} "
            f"(hash={run.data_hash[:8]}, now {data_hash[:8]}); restore them, or start a "
            "new run"
        )
    rows = run.checked_metrics()
    here = environment(device)
    run.record_environment(here)
    if run.environment is not None and not run.is_finished:
        check_environment(str(run.path), run.environment, here)
    # Seeds in the outer loop, so that drift in the machine's speed affects all graphs equally.
    for seed in config.seeds:
        for place in range(len(graphs)):
            rows = _train_one(run, place, seed, graphs[place], data, device, rows, watch)
    results = [_result(run, place, graph, data, rows) for place, graph in enumerate(graphs)]
    run.write_results([result.to_dict() for result in results])
    captions = [
        f"C = {r.clustering_coefficient:.3f}, L = {r.average_path_length:.3f}" for r in results
    ]
    plot_run(
        run.plot,
        f"{config.model} on {data.name}, equal multiply-adds",
        list(zip(config.graphs, graphs, captions, strict=True)),
        rows,
    )
    return results


def _train_one(
    run: RunDirectory,
    place: int,
    seed: int,
    graph: RelationalGraph,
    data: ImageDataset | ImageFolder,
    device: torch.device,
    rows: list[MetricsRow],
    watch: Callable[[MetricsRow], None],
) -> list[MetricsRow]:
    """Train, or finish training, one graph with one seed; returns all metrics."""
    config, text = run.config, run.config.graphs[place]
    weights, checkpoint = run.weights(place, seed), run.checkpoint(place, seed)
    if weights.exists():
        run.check_finished(rows, place, seed)
        delete_checkpoint(checkpoint)
        return rows
    model: nn.Module = build_model(config, graph, data, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    trainer = Trainer(model, data, config.training, generator=generator, device=device)
    identity = (
        f"{config.model} on {text} (hash={graph.content_hash[:8]}), {config.dataset}"
        f"[{data.num_train}], seed {seed}, init {config.init}, width "
        f"x {config.width_multiplier}, {config.training.describe()}"
    )
    if has_checkpoint(checkpoint):
        restore(trainer, checkpoint, identity)
        run.check_epochs(rows, place, seed, trainer.epoch)
    # Metrics are written before the checkpoint; drop an epoch that has no checkpoint yet.
    rows = [r for r in rows if (r.graph, r.seed) != (text, seed) or r.epoch <= trainer.epoch]
    while not trainer.finished:
        row = MetricsRow(graph=text, seed=seed, **trainer.train_epoch().__dict__)
        rows = [*rows, row]
        run.write_metrics(rows)
        save_checkpoint(trainer, checkpoint, identity)
        watch(row)
    mpnn_arch.save(model, weights)
    delete_checkpoint(checkpoint)
    return rows


def restore(trainer: Trainer, checkpoint: Path, identity: str) -> None:
    """Load a checkpoint, which may be forged.

    Raises:
        InputError: the file is damaged, or is not a checkpoint of this training.
    """
    epochs = trainer.config.epochs
    try:
        load_checkpoint(trainer, checkpoint, identity)
        if not 1 <= trainer.epoch <= epochs:
            raise ValueError(f"epoch {trainer.epoch} of {epochs}")
        for parameter, state in trainer.optimizer.state.items():
            momentum = state.get("momentum_buffer")
            if momentum is not None and momentum.shape != parameter.shape:
                raise ValueError(f"a momentum of shape {tuple(momentum.shape)}")
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint} is not a checkpoint of this training ({str(error)[:200]!r}); "
            f"{how_to_restart(checkpoint)}"
        ) from error


def _load_data(config: RunConfig, data_root: str | Path | None) -> ImageDataset | ImageFolder:
    data = load_dataset(config.dataset, data_root)
    return data.subset(config.train_images, config.test_images)


def _content_hash(data: ImageDataset | ImageFolder) -> str | None:
    """The hash of data in memory; a folder is too large to be read for it."""
    return data.content_hash if isinstance(data, ImageDataset) else None


def _result(
    run: RunDirectory,
    place: int,
    graph: RelationalGraph,
    data: ImageDataset | ImageFolder,
    rows: Sequence[MetricsRow],
) -> GraphResult:
    config, text = run.config, run.config.graphs[place]
    mine = [row for row in rows if row.graph == text]
    errors = [row.test_error for row in mine if row.epoch == config.training.epochs]
    model = build_model(config, graph, data, device="meta")
    cost = models.complexity(model, data.image_shape)
    return GraphResult(
        graph=text,
        clustering_coefficient=graph.clustering_coefficient,
        average_path_length=graph.average_path_length,
        widths=tuple(model.widths),
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        test_error_mean=statistics.mean(errors),
        test_error_deviation=statistics.stdev(errors) if len(errors) > 1 else None,
        seconds_per_epoch=statistics.median(row.seconds for row in mine),
    )
