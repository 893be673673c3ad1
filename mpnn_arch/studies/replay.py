"""One trial of a ledger trained again, and compared with what the ledger has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mpnn_arch.errors import InputError
from mpnn_arch.studies.ledger import METRICS
from mpnn_arch.studies.machine import machine
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.tasks import Task, make_trainer


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One epoch trained again.

    Attributes:
        epoch: its number.
        test_error: now, in percent.
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

    Nothing is written. On the machine on which it was trained the bits are the same.

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
        (graph,) = ledger.query("SELECT * FROM graph WHERE hash = ?", row["graph_hash"])
    task = Task(
        id=row["id"],
        lease=row["lease"],
        trial=json.loads(row["spec"]),
        hash=row["hash"],
        num_nodes=graph["num_nodes"],
        adjacency=graph["adjacency"].hex(),
        epochs_known=0,
        choices=json.loads(row["choices"]) if row["choices"] else None,
        threads=row["threads"],
        folder=str(study.path),
        weights=None,
        device=device,
        data_root=data_root,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(task.threads)
    try:
        _, trainer = make_trainer(task)
        done = []
        for old in accepted:
            now = trainer.train_epoch()
            differs = [
                f"{name}: {old[name]}, {getattr(now, name)}"
                for name in METRICS
                if not _equal(old[name], getattr(now, name))
            ]
            done.append(
                Replayed(epoch=now.epoch, test_error=now.test_error, differs=tuple(differs))
            )
            watch(done[-1])
        return done
    finally:
        torch.set_num_threads(before)


def machine_differs(study: Study, which: str, device: str = "cpu") -> list[str]:
    """What is other here than where the trial was trained: processor, versions."""
    with study.ledger() as ledger:
        row = ledger.find_trial(which)
    then: dict[str, Any] = json.loads(row["machine"] or "{}")
    return [
        f"{name} {then[name]} then, {value} now"
        for name, value in machine(device).items()
        if name in then and then[name] != value
    ]


def _equal(stored: float | None, now: float) -> bool:
    return stored == now or (stored is None and now != now)
