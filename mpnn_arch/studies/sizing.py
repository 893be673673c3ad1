"""How many worker processes, with how many threads each: decided by a short trial."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mpnn_arch.studies.jobs import Job
from mpnn_arch.studies.pool import Pool
from mpnn_arch.studies.recording import Recorder
from mpnn_arch.studies.tasks import Task
from mpnn_arch.training.devices import free_memory

_SECONDS = 2.0  # in which steps are counted
_PATIENCE = 120.0  # until all workers have to be ready
_WORTH_IT = 0.05  # more processes are taken where they gain this share: they take memory
_SHARE_OF_MEMORY = 0.8  # of what is free


def choose_workers(
    recorder: Recorder,
    make_pool: Callable[[int], Pool],
    cores: int,
    is_stopping: Callable[[], bool] = lambda: False,
) -> str | None:
    """Set the workers and threads of ``recorder`` to what trains most steps a second.

    Tried are 1, 2, 4, ... processes that share the cores, all at work at the same time on the first
    trial that is queued, as many as there are trials and the memory holds. The answer is kept in
    the ledger: the same machine does not try again.

    Args:
        recorder: its settings are replaced.
        make_pool: a pool of so many workers on this machine.
        cores: to share.
        is_stopping: asked while the trial runs; if true it ends without an answer.

    Returns:
        What was found, in words; None where nothing was tried.
    """
    ledger, where = recorder.ledger, {"host": socket.gethostname(), "cores": cores}
    rows = list(ledger.query("SELECT * FROM trial WHERE state = 'queued' LIMIT ?", cores))
    known = ledger.setting("workers")
    if known and {name: known[name] for name in where} == where:
        _set(recorder, known["workers"], cores)
        return None
    if not rows:
        return None
    rates: dict[int, float] = {}
    workers, most = 1, float(min(cores, len(rows)))
    while workers <= most:
        task = recorder.task(rows[0], threads=max(1, cores // workers))
        found = rate(make_pool(workers), task, workers, is_stopping=is_stopping)
        if found is None:  # the study itself will say why
            return None
        rates[workers], memory = found
        free = free_memory(torch.device("cpu"))
        if free is not None:
            most = min(most, _SHARE_OF_MEMORY * (free + workers * memory) / memory)
        workers *= 2
    best = choose(rates)
    _set(recorder, best, cores)
    with ledger.transaction():
        kept = {str(number): round(steps, 3) for number, steps in rates.items()}
        ledger.store_setting("workers", {**where, "workers": best, "rates": kept})
    tried = ", ".join(f"{number}: {steps:.3g}" for number, steps in rates.items())
    return (
        f"{best} workers x {recorder.settings.threads} threads, by a trial (workers: steps a "
        f"second; {tried})"
    )


def choose(rates: Mapping[int, float]) -> int:
    """The fewest workers that come within 5 % of the highest rate."""
    enough = (1 - _WORTH_IT) * max(rates.values())
    return min(number for number, rate in rates.items() if rate >= enough)


def _set(recorder: Recorder, workers: int, cores: int) -> None:
    threads = max(1, cores // workers)
    recorder.settings = dataclasses.replace(recorder.settings, workers=workers, threads=threads)


def rate(
    pool: Pool,
    task: Task,
    workers: int,
    seconds: float | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> tuple[float, float] | None:
    """Training steps a second of all workers together, and the largest one's bytes of memory.

    The steps are those within ``seconds`` in which all workers are at work. None if one of them
    cannot train, or it is stopped.
    """
    seconds = _SECONDS if seconds is None else seconds
    names, ready, results = [], set(), dict[str, dict[str, Any]]()
    until = time.monotonic() + _PATIENCE
    try:
        for _ in range(workers):
            names.append(pool.start())
            pool.submit(names[-1], Job(tasks=(task,), trial_seconds=seconds))
        stopping = False
        while len(results) < workers:
            if time.monotonic() > until or is_stopping():
                return None
            for name, event in pool.take(0.25):
                if event["is"] == "ready":
                    ready.add(name)
                elif event["is"] == "counted":
                    results[name] = event
                else:  # failed or lost
                    return None
            if len(ready) == workers and not stopping:
                time.sleep(seconds)
                pool.stop()
                stopping = True
    finally:
        pool.close()
    steps = sum(found["steps"] for found in results.values())
    return steps / seconds, max(found["memory"] for found in results.values())
