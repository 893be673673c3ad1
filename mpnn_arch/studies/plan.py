"""The trials that a configuration names, each with the hashes of its graph, data and code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.studies import import_paths
from mpnn_arch.studies.building import build_model, load_data
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.studies.trial import Trial

_MOST_CHECKED = 64  # models that are built before a study begins


def plan(
    config: StudyConfig, data_root: str | Path | None
) -> tuple[dict[str, RelationalGraph], list[Trial]]:
    """The graphs and trials of ``config``; models are built without weights, to see that they fit.

    Raises:
        InputError: something it names does not exist or does not fit.
    """
    by_spec = {spec: expand([spec]) for spec in config.graphs}
    sources = {path: import_paths.source_hash(path) for path in config.import_paths}
    data, fingerprint = load_data(
        config.dataset,
        sources.get(config.dataset),
        None if data_root is None else str(data_root),
        config.train_images,
        config.test_images,
    )
    trials = list_trials(config, by_spec, fingerprint, sources)
    graphs = {name: graph for made in by_spec.values() for name, graph in made.items()}
    if config.model not in sources:
        for trial in _one_of_each(trials)[:_MOST_CHECKED]:
            build_model(trial, graphs[trial.graph], data, device="meta")
    return graphs, trials


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
