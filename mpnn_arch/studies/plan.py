"""The trials that a configuration names, each with the hashes of its graph, data and code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from itertools import zip_longest
from pathlib import Path

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.studies import import_paths
from mpnn_arch.studies.building import build_model, check_repeats, load_data
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.data import ImageDataset
from mpnn_arch.training.image_folder import ImageFolder
from mpnn_arch.training.loop import count_steps
from mpnn_arch.training.own_code import own_code
from mpnn_arch.training.sources import source_of

_MOST_CHECKED = 64  # models that are built before a study begins


def plan(
    config: StudyConfig,
    data_root: str | Path | None,
    known: Mapping[str, RelationalGraph] | None = None,
) -> tuple[dict[str, RelationalGraph], list[Trial]]:
    """The graphs and trials of ``config``; models are built without weights, to see that they fit.

    Of a model of the user's own the first is built, with its weights.

    Args:
        config: what was asked for.
        data_root: folder of downloaded data.
        known: graphs by specification that are taken as they are, not made or read.

    Raises:
        InputError: something it names does not exist or does not fit.
    """
    known = known or {}
    by_spec = {
        spec: {spec: known[spec]} if spec in known else expand([spec]) for spec in config.graphs
    }
    sources = {path: import_paths.source_hash(path) for path in config.import_paths}
    source = sources.get(config.dataset)
    root = None if data_root is None else str(data_root)
    parts = (config.train_images, config.test_images)
    if source is not None:
        check_repeats(config.dataset, source, root, *parts)
    data, fingerprint = load_data(config.dataset, source, root, *parts)
    count_steps(data, config.training)  # what every trial would fail by
    source_of(data, config.training)
    trials = list_trials(config, by_spec, fingerprint, sources)
    graphs = {name: graph for made in by_spec.values() for name, graph in made.items()}
    if config.model in sources:  # it may not know of "meta": one, as it will be trained
        for trial in trials[:1]:
            with own_code(f"the function {config.model!r}"):
                build_model(trial, graphs[trial.graph], data)
        return graphs, trials
    _check_type(data)
    for trial in _one_of_each(trials)[:_MOST_CHECKED]:
        code = " or ".join(repr(path) for path, _ in trial.sources)
        with own_code(code) if code else nullcontext():
            build_model(trial, graphs[trial.graph], data, device="meta")
    return graphs, trials


def _check_type(data: ImageDataset | ImageFolder) -> None:
    """Whether the images are of the type of the weights that the library's models have.

    Raises:
        InputError: they are not.
    """
    if isinstance(data, ImageDataset) and data.train_images.dtype != torch.float32:
        raise InputError(
            f"the images of {data.name!r} are {data.train_images.dtype}, the weights of the models "
            "torch.float32; convert the images with .float()"
        )


def list_trials(
    config: StudyConfig,
    by_spec: Mapping[str, Mapping[str, RelationalGraph]],
    fingerprint: str,
    sources: Mapping[str, str],
) -> list[Trial]:
    """The trials of ``config`` in their order, each once.

    Args:
        config: what was asked for.
        by_spec: for every specification its graphs by their canonical names.
        fingerprint: of the data set.
        sources: for every import path the SHA-256 of its file.
    """
    trials: dict[str, Trial] = {}
    for seed, spec, message, aggr in config.combinations():
        for name, graph in by_spec[spec].items():
            used = {config.model, config.dataset, message, aggr}
            trial = Trial(
                model=config.model,
                graph=name,
                graph_hash=graph.content_hash,
                dataset=config.dataset,
                data_hash=fingerprint,
                recipe=config.training,
                seed=seed,
                message=message,
                aggr=aggr,
                order=config.order,
                init=config.init,
                backend=config.backend,
                width_multiplier=config.width_multiplier,
                train_images=config.train_images,
                test_images=config.test_images,
                sources=tuple((path, sources[path]) for path in sorted(sources) if path in used),
            )
            trials.setdefault(trial.hash, trial)
    return list(trials.values())


def _one_of_each(trials: Iterable[Trial]) -> list[Trial]:
    """A trial for every message and aggregation, and on every graph."""
    found: dict[tuple[str | None, str], list[Trial]] = {}
    seen: set[tuple[str, str | None, str]] = set()
    for trial in trials:
        if (trial.graph, trial.message, trial.aggr) not in seen:
            seen.add((trial.graph, trial.message, trial.aggr))
            found.setdefault((trial.message, trial.aggr), []).append(trial)
    return [trial for of_graph in zip_longest(*found.values()) for trial in of_graph if trial]
