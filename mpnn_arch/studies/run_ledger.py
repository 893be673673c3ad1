"""The ledger of a run directory of an earlier ``mpnn-arch train``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.studies.ledger import METRICS, Ledger
from mpnn_arch.studies.metrics import MetricsRow
from mpnn_arch.studies.plan import list_trials
from mpnn_arch.studies.run_directory import RunDirectory
from mpnn_arch.studies.trial import Trial
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import RunConfig

Place = tuple[int, int]
"""Number of the graph in the run's configuration, and seed."""

Graphs = Mapping[str, Mapping[str, RelationalGraph]]
"""For every specification of the run its graph, by its canonical name."""


@contextmanager
def ledger_of_run(path: str | Path) -> Iterator[Ledger]:
    """What a run directory holds, as a ledger that is gone afterwards; nothing is written there.

    Neither data nor code of the run is loaded, so the hashes of its trials stand for this folder
    alone, and cost and widths are known only if the run was finished.

    Raises:
        InputError: no run directory, or a file of it that is damaged.
    """
    run = RunDirectory.open(path)
    rows = run.checked_metrics()
    by_spec = {spec: expand([spec]) for spec in run.config.graphs}
    trials = list_trials(study_config(run.config), by_spec, run.data_hash or "unknown", {})
    places = places_of(run, by_spec, trials)
    found = {row["graph"]: row for row in _results(run)}

    def about(place: Place, trial: Trial) -> dict[str, Any]:
        of_graph = found.get(run.config.graphs[place[0]], {})
        return {
            "choices": {},
            "widths": [int(n) for n in str(of_graph.get("widths", "")).split("-") if n.isdecimal()],
            **{name: _count(of_graph.get(name)) for name in ("parameters", "multiply_adds")},
        }

    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        done = [place for place in places if run.weights(*place).exists()]
        fill_ledger(file, run, places, by_spec, rows, about, done)
        with Ledger(file) as ledger:
            yield ledger


def study_config(run: RunConfig) -> StudyConfig:
    """What a study is asked for that trains what ``run`` does."""
    return StudyConfig(
        model=run.model,
        dataset=run.dataset,
        graphs=run.graphs,
        seeds=run.seeds,
        training=run.training,
        init=run.init,
        backend=run.backend,
        width_multiplier=run.width_multiplier,
        train_images=run.train_images,
        test_images=run.test_images,
        weights="all",
        recipe=run.recipe,
    )


def places_of(
    run: RunDirectory,
    by_spec: Graphs,
    trials: Sequence[Trial],
) -> dict[Place, Trial]:
    """The trial of every graph and seed of the run.

    Raises:
        InputError: a graph that is another one by now, or two names of one graph.
    """
    found = {}
    for number, (spec, digest) in enumerate(zip(run.config.graphs, run.graph_hashes, strict=True)):
        ((name, graph),) = by_spec[spec].items()
        if graph.content_hash != digest:
            raise InputError(
                f"{run.path} was started on another graph {spec!r} (hash={digest[:8]}, now "
                f"{graph.content_hash[:8]}); restore the graph, or start a new run"
            )
        for trial in trials:
            if trial.graph == name:
                found[number, trial.seed] = trial
    if len({trial.hash for trial in found.values()}) < len(found):
        raise InputError(
            f"{run.path} trains one graph under two names, which a study does not; start a new run"
        )
    return dict(sorted(found.items(), key=lambda item: (item[0][1], item[0][0])))


def fill_ledger(
    file: Path,
    run: RunDirectory,
    places: Mapping[Place, Trial],
    by_spec: Graphs,
    rows: Sequence[MetricsRow],
    about: Callable[[Place, Trial], dict[str, Any]],
    done: Sequence[Place],
) -> None:
    """A new ledger at ``file`` with the trials of the run and what is known of them."""
    machine = dict(run.environment or {})
    threads = machine.pop("threads", None) or torch.get_num_threads()
    graphs = {name: graph for made in by_spec.values() for name, graph in made.items()}
    with LedgerWriter.create(file) as ledger, ledger.transaction():
        ledger.add_trials(places.values(), graphs)
        for place, trial in places.items():
            spec = run.config.graphs[place[0]]
            mine = [row for row in rows if (row.graph, row.seed) == (spec, place[1])]
            if not mine:
                continue
            number = ledger.find_trial(trial.hash)["id"]
            lease = ledger.lease_trial(number, "an earlier mpnn-arch train")
            found = {"machine": machine, "threads": threads, **about(place, trial)}
            ledger.started(number, lease, found)
            for row in sorted(mine, key=lambda row: row.epoch):
                values = {name: getattr(row, name) for name in ("epoch", *METRICS, "seconds")}
                ledger.record_epoch(number, lease, values, wall=row.seconds)
            if place in done:
                ledger.finish(number, lease)
            else:
                ledger.release(number, lease, "stopped")


def _results(run: RunDirectory) -> list[dict[str, Any]]:
    """The lines of ``results.json``; none before the run was finished."""
    try:
        found = parse_json((run.path / "results.json").read_bytes())
        return [row for row in found if isinstance(row, dict) and isinstance(row["graph"], str)]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _count(value: object) -> int | None:
    """A number of parameters or operations, if it is one that a ledger can hold."""
    return value if isinstance(value, int) and 0 <= value < 2**63 else None
