"""Workers on the machines of a Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import WriteError
from mpnn_arch.studies.folders import files_of, write_files
from mpnn_arch.studies.import_paths import python_path
from mpnn_arch.studies.interrupts import STOPS
from mpnn_arch.studies.jobs import LAST, Job
from mpnn_arch.studies.queue_pool import QueuePool, lost
from mpnn_arch.studies.ray_worker import RayWorker

PATIENCE = 120.0
"""Seconds in which Ray should find out that a machine is gone; it takes about 15."""

WAIT = 20.0
"""Seconds that a worker may wait for a place while another of ours has nothing to do."""


CLOSING = 10.0
"""Seconds in which the threads of a pool should end; they look up at least every two."""


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one of its own on this machine.

    Args:
        address: of a cluster, ``"auto"`` for the one that runs here; None: ``RAY_ADDRESS``, or a
            new one that ends with this process.

    Raises:
        InputError: there is no such cluster.
    """
    # A cluster that is started here reports to nobody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    handlers = _handlers()
    own = not (address or os.environ.get("RAY_ADDRESS"))
    more = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if own else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            ray.init(
                address="local" if own else address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                namespace="mpnn_arch",
                **more,
            )
    except Exception as error:  # of every class, as a plain one where a machine is too busy
        ray.shutdown()
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise InputError(
            f"no Ray cluster answers at {where} ({_short(error)}); start one with `ray start "
            "--head`, or leave --ray-address out to use this machine alone"
        ) from None
    finally:
        _restore(handlers)
    try:
        yield ray
    finally:
        ray.shutdown()
        _restore(handlers)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in STOPS}


def _restore(handlers: dict[int, Any]) -> None:
    """Ray takes SIGTERM for itself."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


@dataclass
class _Worker:
    name: str
    actor: Any
    since: float = field(default_factory=time.monotonic)
    job: Job | None = None
    shared: bool | None = None  # None until it has begun
    arrived: threading.Event = field(default_factory=threading.Event)  # a job, or the end
    ended: bool = False


class RayPool(QueuePool):
    """An actor a worker; a thread of this process listens to each.

    A worker that sees the study's folder writes checkpoints there; to any other the files of its
    trials are sent along, and it gives them back after every epoch, before the epoch is recorded.

    Args:
        ray: connected.
        folder: of the study; its lock is held.
        workers: at most so many at a time; None: as many as the cluster has room for.
        threads: of each, which are its CPUs.
        on_gpu: whether each needs a GPU.
        shared: whether workers see the folder; None: they find out.
    """

    def __init__(
        self,
        ray: Any,
        folder: Path,
        *,
        workers: int | None,
        threads: int,
        on_gpu: bool,
        shared: bool | None = None,
    ) -> None:
        super().__init__("ray")
        self._ray, self._folder, self._shared = ray, folder, shared
        self._most, self._threads, self._on_gpu = workers, threads, on_gpu
        self._workers: dict[str, _Worker] = {}
        self._listeners: list[threading.Thread] = []
        self._room = (0.0, 0)  # when it was asked for, and what it was
        # Settings and own modules are those of the driver.
        variables = {n: v for n, v in os.environ.items() if n.startswith("MPNN_ARCH_")}
        self._actors = ray.remote(RayWorker).options(
            num_cpus=threads,
            num_gpus=1 if on_gpu else 0,
            max_restarts=0,
            max_concurrency=3,  # train, stop and describe at a time
            runtime_env={"env_vars": {**variables, "PYTHONPATH": python_path()}},
        )

    @property
    def size(self) -> int:
        """How many the living machines have room for, or fewer if so many were asked for."""
        asked, room = self._room
        if time.monotonic() - asked > 1.0:
            room = 0
            for node in self._ray.nodes():
                has = node["Resources"] if node["Alive"] else {}
                fit = int(has.get("CPU", 0)) // self._threads
                room += min(fit, int(has.get("GPU", 0))) if self._on_gpu else fit
            self._room = time.monotonic(), room
        return room if self._most is None else min(room, self._most)

    def check_room(self) -> None:
        """Whether the cluster can run a worker at all.

        Raises:
            InputError: it cannot.
        """
        if self.size < 1:
            gpu = " and a GPU" if self._on_gpu else ""
            raise InputError(
                f"no machine of the Ray cluster has {self._threads} CPUs{gpu} for a worker; give "
                "fewer --threads, or add machines"
            )

    def start(self) -> str:
        """A new actor, which may wait for its place; return its name."""
        name = self._new_name()
        worker = _Worker(name, self._actors.remote())
        self._workers[name] = worker
        self._listeners = [listener for listener in self._listeners if listener.is_alive()]
        self._listeners.append(threading.Thread(target=self._listen, args=(worker,), daemon=True))
        self._listeners[-1].start()
        return name

    def submit(self, worker: str, job: Job) -> None:
        """Give a job to an actor, or to one that has still to begin."""
        found = self._workers.get(worker)
        if found is not None:
            found.job = job
            found.arrived.set()

    # -- a worker's thread ----------------------------------------------------------------------

    def _listen(self, worker: _Worker) -> None:
        """From the actor's beginning to its end."""
        try:
            if not self._begin(worker):
                self.put(worker.name, lost("the cluster has no room for it", began=False))
                return
            while True:
                worker.arrived.wait()
                worker.arrived.clear()
                if worker.ended or worker.job is None:
                    return
                self._train(worker, worker.job)
        except WriteError as error:
            self._cannot_write(worker, str(error))
        except Exception as error:  # of Ray's, which has many
            self._see_it_end(worker)
            began = worker.shared is not None
            what = "its Ray worker was lost" if began else "its Ray worker could not begin"
            self.put(worker.name, lost(f"{what}: {_short(error)}", began=began))
        finally:
            with suppress(Exception):
                self._ray.kill(worker.actor)

    def _see_it_end(self, worker: _Worker) -> None:
        """Wait until Ray knows that the actor is dead: one out of reach may still train."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not worker.ended:
            try:
                self._ray.kill(worker.actor)
                self._ray.get(worker.actor.stop.remote(), timeout=5)
            except self._ray.exceptions.ActorDiedError:
                return
            except Exception:  # out of reach, or slow
                time.sleep(0.2)

    def _begin(self, worker: _Worker) -> bool:
        """Wait until an actor has a place and answers; return whether it got one.

        Until Ray has noticed that a machine is gone, it may give places there: such an actor dies
        before it answers, and another one is made.
        """
        lock = self._folder.absolute() / "lock"
        while True:
            try:
                return self._meet(worker, str(lock), lock.read_text(encoding="utf-8"))
            except self._ray.exceptions.RayActorError as error:
                own_fault = "creation task" in str(error)  # its imports failed, say
                if own_fault or worker.ended or time.monotonic() - worker.since > PATIENCE:
                    raise
            time.sleep(2.0)
            worker.actor = self._actors.remote()

    def _meet(self, worker: _Worker, lock: str, text: str) -> bool:
        asked = worker.actor.describe.remote(lock, text)
        while not self._ray.wait([asked], timeout=0.5)[0]:
            waited = time.monotonic() - worker.since
            idle = any(w.job is None and w.shared is not None for w in list(self._workers.values()))
            if worker.ended or len(self._names) > self.size or (waited > WAIT and idle):
                return False
        about = self._ray.get(asked)
        worker.shared = about["shared"] if self._shared is None else self._shared
        return True

    def _train(self, worker: _Worker, job: Job) -> None:
        files = None if worker.shared else files_of(self._folder, job)
        stream = worker.actor.train.options(num_returns="streaming").remote(job.to_dict(), files)
        if self._stopping.is_set():
            worker.actor.stop.remote()
        last = sum(task.lease > 0 for task in job.tasks)
        for reference in stream:
            event, written = self._ray.get(reference)
            if worker.ended:
                return
            if written:
                write_files(self._folder, written)
            if event["is"] in LAST:
                last -= 1
            if not last:
                worker.job = None  # before the driver knows, and gives another
            self.put(worker.name, event)
        if last:
            raise RuntimeError("it ended without a result")

    def _cannot_write(self, worker: _Worker, reason: str) -> None:
        for task in worker.job.tasks if worker.job else ():
            if not task.lease:
                continue
            event = {"is": "storage", "id": task.id, "lease": task.lease, "reason": reason}
            self.put(worker.name, {**event, "leaves": True})

    # -- the end ----------------------------------------------------------------------------------

    def _forget(self, worker: str) -> None:
        super()._forget(worker)
        found = self._workers.pop(worker, None)
        if found is not None:
            found.ended = True
            found.arrived.set()

    def stop(self) -> None:
        """Ask all actors to end their jobs after the epoch in flight."""
        self._stopping.set()
        for worker in list(self._workers.values()):
            with suppress(Exception):
                worker.actor.stop.remote()

    def _end(self, workers: Sequence[str]) -> None:
        for name in workers:
            if name in self._workers:
                self._workers[name].ended = True
                with suppress(Exception):
                    self._ray.kill(self._workers[name].actor)

    def close(self) -> None:
        """End all actors, and the threads that listen to them.

        A thread that called Ray after it was shut down would start a new cluster on this machine.
        """
        names = list(self._workers)
        self._end(names)
        for name in names:
            self._forget(name)
        until = time.monotonic() + CLOSING
        for listener in self._listeners:
            listener.join(max(0.0, until - time.monotonic()))


def _short(error: BaseException) -> str:
    """The first line of what Ray says that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
