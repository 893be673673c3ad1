"""One trial of a ledger trained again, and compared with what the ledger has."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.studies.ledger import METRICS
from mpnn_arch.studies.machine import machine
from mpnn_arch.studies.recording import Recorder, RunSettings
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.tasks import Task, make_trainer
from mpnn_arch.studies.together import make_population
from mpnn_arch.training.defaults import torch_as_started
from mpnn_arch.training.loop import EpochMetrics
from mpnn_arch.training.share import in_words


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One epoch trained again.

    Attributes:
        epoch: its number.
        test_error: now, in percent; NaN if the recipe does not evaluate this epoch.
        differs: metrics that are not equal to the bit, as ``name: then, now``.
    """

    epoch: int
    test_error: float
    differs: tuple[str, ...]


def replay(
    study: Study,
    which: str,
    *,
    device: str = "cpu",
    data_root: str | None = None,
    trust: bool = False,
    watch: Callable[[Replayed], None] = lambda epoch: None,
) -> list[Replayed]:
    """Train a trial again, with its threads and backends, and compare every epoch it has.

    Where its steps were CUDA graphs, they are again, on a GPU. One that was trained in a population
    is trained in that population again. Nothing is written. On the machine on which it was trained
    the bits are the same.

    Args:
        study: which it is in.
        which: its number or the first digits of its hash.
        device: where to train.
        data_root: see :func:`mpnn_arch.training.data.load_dataset`.
        trust: run code by import path of a study that somebody else made.
        watch: called after every epoch.

    Raises:
        InputError: no such trial, one without epochs, or one that cannot be trained here.
    """
    with study.ledger() as ledger:
        row = ledger.find_trial(which)
        study.check_trust(ledger, trust)
        accepted = ledger.epochs(row["id"])
        if not accepted:
            raise InputError(f"trial {which} has no epochs to compare with; run the study first")
        threads = row["threads"]
        settings = RunSettings(
            workers=1,
            threads=threads,
            device=device,
            data_root=data_root,
            cuda_graphs=_with_graphs(row) and torch.device(device).type == "cuda",
        )
        recorder = Recorder(study.path, cast(Any, ledger), settings)
        together = [row] if row["population"] is None else ledger.members(row["population"])
        tasks = [recorder.task(member, threads=threads) for member in together]
    place = [member["id"] for member in together].index(row["id"])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch_as_started():
            return _compare(accepted, _training(tasks, place), watch)
    finally:
        torch.set_num_threads(before)


def _compare(
    accepted: Sequence[sqlite3.Row],
    train_epoch: Callable[[], EpochMetrics],
    watch: Callable[[Replayed], None],
) -> list[Replayed]:
    """Train the epochs that were accepted again."""
    done = []
    for old in accepted:
        now = train_epoch()
        differs = [
            f"{name}: {old[name]}, {getattr(now, name)}"
            for name in METRICS
            if not _equal(old[name], getattr(now, name))
        ]
        done.append(Replayed(epoch=now.epoch, test_error=now.test_error, differs=tuple(differs)))
        watch(done[-1])
    return done


def _with_graphs(row: sqlite3.Row) -> bool:
    """Whether the trial's steps were CUDA graphs, which a CPU has none of."""
    return bool(json.loads(row["machine"] or "{}").get("cuda_graphs"))


def _training(tasks: list[Task], place: int) -> Callable[[], EpochMetrics]:
    """What trains the next epoch of one of these trials, with those that it was trained with."""
    if len(tasks) == 1:
        return make_trainer(tasks[0])[1].train_epoch
    population = make_population(tasks)

    def train_epoch() -> EpochMetrics:
        trained = population.train_epoch()
        if place not in trained:
            raise InputError(f"{population.diverged[place]}; the ledger has an epoch of it there")
        return trained[place]

    return train_epoch


def machine_differs(study: Study, which: str, device: str = "cpu") -> list[str]:
    """What is other here than where the trial was trained: processor, versions."""
    with study.ledger() as ledger:
        then: dict[str, Any] = json.loads(ledger.find_trial(which)["machine"] or "{}")
    return [
        f"{name} {then[name]} then, {value} now"
        for name, value in {**machine(device), "processes": in_words(1, "")}.items()
        if name in then and then[name] != value
    ]


def _equal(stored: float | None, now: float) -> bool:
    return stored == now or (stored is None and now != now)
