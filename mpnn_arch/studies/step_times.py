"""The time of a training step of every message and aggregation, relative to one of them."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mpnn_arch.diagnostics.timing import interleaved, machine
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.files import write_text
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.rounds import import_choices
from mpnn_arch.studies.building import build_model, data_of
from mpnn_arch.studies.graph_names import graph_of
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.trial import Trial
from mpnn_arch.training.sources import source_of

BASELINE = ("linear", "sum")
"""The fused round that all others are compared with, at its own matched widths."""

_FILE = "step_times.json"
_TURNS, _WARM_UPS, _SECONDS = 41, 2, 5.0


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Time of a training step relative to the baseline on the same graph.

    Attributes:
        graph, message, aggr: of the rounds.
        ratio: median over turns in which both were timed; 1 for the baseline itself, by definition.
        spread: half the interquartile range over the median.
        backend: how the rounds are computed: ``"fused"`` or ``"messages"``.
    """

    graph: str
    message: str | None
    aggr: str
    ratio: float
    spread: float
    backend: str


def step_times(
    study: Study,
    *,
    device: str = "cpu",
    threads: int | None = None,
    data_root: str | Path | None = None,
    trust: bool = False,
    watch: Callable[[str], None] = lambda what: None,
) -> list[StepTime]:
    """Time a step (forward and backward) of every graph, message and aggregation of a study.

    Every network takes turns with the baseline in one process, so that other load on the machine
    affects both alike. What was timed once is kept in ``step_times.json``, and read from there.

    Args:
        study: nothing in it is trained meanwhile.
        device: where to time.
        threads: of torch; None: as they are.
        data_root: see :func:`mpnn_arch.training.data.load_dataset`.
        trust: run code by import path of a study that somebody else made.
        watch: called with the name of each network before it is timed.

    Raises:
        InputError: the data set is gone, the file cannot be written, or the study is not trusted.
    """
    path = study.path / _FILE
    known = {(t.graph, t.message, t.aggr): t for t in _read(path)}
    with study.ledger() as ledger:
        study.check_trust(ledger, trust)
        graphs = {row["hash"]: row for row in ledger.query("SELECT * FROM graph")}
        firsts: dict[tuple[Any, ...], Any] = {}
        for row in ledger.trials():
            firsts.setdefault((row["graph"], row["message"], row["aggr"]), row)
    wanted = {key: row for key, row in firsts.items() if key not in known}
    if not wanted:
        return [known[key] for key in firsts]
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for graph in dict.fromkeys(key[0] for key in wanted):
            rows = [row for key, row in wanted.items() if key[0] == graph]
            of_graph = graphs[rows[0]["graph_hash"]]
            made = graph_of(of_graph["num_nodes"], of_graph["adjacency"])
            for time in _time_on(made, rows, device, data_root, watch):
                known[time.graph, time.message, time.aggr] = time
        about = machine(device)
    finally:
        torch.set_num_threads(before)
    found = [known[key] for key in firsts]
    content = {"machine": about, "steps": [asdict(time) for time in found]}
    write_text(path, json.dumps(content, indent=2) + "\n")
    return found


def _time_on(
    graph: RelationalGraph,
    rows: Iterable[Any],
    device: str,
    data_root: str | Path | None,
    watch: Callable[[str], None],
) -> Iterable[StepTime]:
    """Each of ``rows``, trials on one graph, in turns with the baseline."""
    baseline: Callable[[], object] | None = None
    for row in rows:
        trial = Trial.from_dict(json.loads(row["spec"]))
        about = {"graph": row["graph"], "message": row["message"], "aggr": row["aggr"]}
        watch(" ".join(filter(None, about.values())))
        # The backend of a population is none of a network that is timed by itself.
        choices = row["choices"] if row["population"] is None else None
        network, step = _step(trial, graph, device, data_root, choices)
        rounds: list[Any] = [m for m in network.modules() if hasattr(m, "why_not_fused")]
        backend = "messages" if any(r.why_not_fused() for r in rounds) else "fused"
        ratio, spread = 1.0, 0.0
        if (trial.message, trial.aggr) == BASELINE:
            baseline = baseline or step
        else:
            if baseline is None:
                own = dataclasses.replace(trial, message=BASELINE[0], aggr=BASELINE[1])
                _, baseline = _step(own, graph, device, data_root, None)
            ratio, spread = _ratio(step, baseline, device)
        yield StepTime(**about, ratio=ratio, spread=spread, backend=backend)


def _step(
    trial: Trial,
    graph: RelationalGraph,
    device: str,
    data_root: str | Path | None,
    choices: str | None,
) -> tuple[nn.Module, Callable[[], object]]:
    """The network of ``trial``, and a step on its first batch."""
    data, _ = data_of(trial, data_root)
    source = source_of(data.to(device), trial.recipe)
    first = torch.arange(min(trial.recipe.batch_size, source.num_train))
    images, labels = next(iter(source.train_batches(trial.recipe, first, torch.Generator())))
    network: nn.Module = build_model(trial, graph, data).to(device).train()
    if choices:
        import_choices(network, json.loads(choices))

    def step() -> None:
        F.cross_entropy(network(images), labels).backward()

    return network, step


def _ratio(
    step: Callable[[], object], baseline: Callable[[], object], device: str
) -> tuple[float, float]:
    timed = interleaved(
        {"baseline": baseline, "step": step},
        _TURNS,
        device=device,
        warm_ups=_WARM_UPS,
        seconds=_SECONDS,
    )
    ratios = [
        mine / theirs
        for mine, theirs in zip(timed["step"].seconds, timed["baseline"].seconds, strict=True)
    ]
    middle = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4)
    return middle, (high - low) / 2 / middle


def _read(path: Path) -> list[StepTime]:
    """What was timed before; nothing if there is no such file.

    Raises:
        InputError: a file that this library did not write.
    """
    if not path.exists():
        return []
    try:
        found = [StepTime(**one) for one in parse_json(path.read_bytes())["steps"]]
        if not all(isinstance(one.ratio + one.spread, float) for one in found):
            raise TypeError
        return found
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f"{path} does not hold times of steps; delete it, and they are measured again"
        ) from None
