"""The runners of a study by name: where its workers are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from mpnn_arch.checks import check_choice
from mpnn_arch.errors import InputError
from mpnn_arch.studies.pool import Pool
from mpnn_arch.studies.recording import RunSettings
from mpnn_arch.training.cores import available_cores
from mpnn_arch.training.share import in_words

RUNNERS = ("local", "ray", "submitit")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Where the workers of a study are.

    Attributes:
        name: ``"local"``, processes of this machine; ``"ray"``, the machines of a Ray cluster; or
            ``"submitit"``, jobs of a batch system (Slurm). Under ``torchrun`` all its processes
            train each trial together, and this is ``"local"``.
        ray_address: of the cluster, as ``"auto"``; None: ``RAY_ADDRESS``, else one of its own.
        cluster: of submitit: ``"auto"``, ``"slurm"`` or ``"local"``.
        job: parameters of submitit's executor, as ``{"slurm_partition": "gpu"}``.
        parallel: under ``torchrun``, see
            :class:`~mpnn_arch.training.distributed.DistributedTrainer`.

    Raises:
        InputError: an unknown name, or a value that belongs to another runner.
    """

    name: str = "local"
    ray_address: str | None = None
    cluster: str = "auto"
    job: Mapping[str, str] = field(default_factory=dict)
    parallel: str = "ddp"

    def __post_init__(self) -> None:
        check_choice("runner", self.name, RUNNERS)
        for runner, is_given, option in (
            ("ray", self.ray_address is not None, "--ray-address"),
            ("submitit", self.cluster != "auto", "--cluster"),
            ("submitit", bool(self.job), "--job"),
        ):
            if is_given and self.name != runner:
                raise InputError(f"{option} is for --runner {runner}; give that too, or neither")

    @property
    def processes_text(self) -> str:
        """How many processes train one network, in words."""
        from mpnn_arch.training.processes import Processes

        group = Processes.current
        return in_words(1 if group is None else group.world_size, self.parallel)

    def settings(
        self,
        *,
        workers: int | Literal["auto"] | None,
        threads: int | None,
        device: str,
        **more: Any,
    ) -> RunSettings:
        """How the study is run; what is None is decided by the runner.

        Args:
            workers, threads, device: as for ``Study.run``.
            more: further fields of ``RunSettings``.

        Raises:
            InputError: no such device.
        """
        import torch

        from mpnn_arch.training.devices import check_graphs, find_device
        from mpnn_arch.training.processes import Processes

        cores = available_cores()
        if workers == "auto":  # found later by a trial, or a runner's own choice
            workers = None
        group = Processes.current
        if group is not None:
            if self.name != "local" or workers not in (None, 0, 1):
                raise InputError(
                    "torchrun's processes train each trial together: leave out --runner and "
                    "--workers, or torchrun"
                )
            where = group.device(device).type
            here = int(os.environ.get("LOCAL_WORLD_SIZE", group.world_size))
            workers, threads = 1, threads or max(1, cores // here)
        elif self.name == "local":
            where = str(find_device(device))
            if workers is None:
                workers = cores if where == "cpu" else 1
            threads = threads or threads_of(cores, workers)
        else:
            # The device is one of the machine where the worker is.
            if device not in ("cpu", "cuda"):
                if device != "auto":
                    raise InputError(f"--runner {self.name} takes the device cpu or cuda")
                device = "cpu"
            where, threads = device, threads or 1
            workers = workers or (0 if self.name == "ray" else 1)
        settings = RunSettings(workers=workers, threads=threads, device=where, **more)
        if settings.cuda_graphs:
            if group is not None:
                raise InputError(
                    "torchrun's processes exchange gradients within a step, which is not captured; "
                    "leave out --cuda-graphs, or torchrun"
                )
            check_graphs(torch.device(where))
        return settings

    def check_system(self, workers: int) -> None:
        """Whether this machine has what so many workers stand on.

        Raises:
            InputError: a package that is not installed, or a system without ``fork`` (Windows).
        """
        from mpnn_arch.training.processes import Processes

        if self.name != "local" and find_spec(self.name) is None:
            raise InputError(
                f"the runner {self.name} needs a package of that name, which is not installed: "
                'pip install "mpnn-arch[cluster]"'
            )
        alone = self.name == "local" and Processes.current is None
        if alone and workers and not hasattr(os, "fork"):
            raise InputError(
                "worker processes are forked, which this system cannot do; train in this process "
                "with --workers 0"
            )

    def check_timeout(self, workers: object, timeout: float | None) -> None:
        """Whether there are workers that a timeout can end.

        Raises:
            InputError: there are none, or they are elsewhere.
        """
        from mpnn_arch.training.processes import Processes

        here = self.name == "local" and Processes.current is None and workers != 0
        if timeout is not None and not here:
            raise InputError(
                "a timeout ends worker processes of this machine, and none are asked for; give "
                "--workers 1 or more without --runner and torchrun, or leave out --timeout"
            )

    def sizes(self, settings: RunSettings) -> bool:
        """Whether a short trial can tell how many workers are best."""
        from mpnn_arch.training.processes import Processes

        return self.name == "local" and settings.device == "cpu" and Processes.current is None

    def population(self, asked: Literal["auto", "off"] | int | None) -> Any:
        """How many networks a worker trains side by side, see ``Study.run``.

        Elsewhere than on this machine a trial of their speed would say nothing: each is trained
        alone, unless a number was asked for.

        Raises:
            InputError: several are asked for under torchrun, which trains one by all processes.
        """
        from mpnn_arch.training.processes import Processes

        if Processes.current is not None and asked not in (None, "auto", "off", 1):
            raise InputError(
                f"torchrun's processes train one network together, not {asked} side by side; leave "
                "out --population, or torchrun"
            )
        away = self.name != "local" or Processes.current is not None
        return "off" if away and asked in (None, "auto") else asked

    @contextmanager
    def open(self, folder: Path, settings: RunSettings) -> Iterator[Callable[[int], Pool]]:
        """What makes a pool of so many workers, all of which end with the context.

        Args:
            folder: of the study; its lock is held.
            settings: from :meth:`settings`.

        Raises:
            InputError: a cluster that does not answer, or as :meth:`check_system`.
        """
        from mpnn_arch.training.processes import Processes

        self.check_system(settings.workers)
        if Processes.current is not None:
            from mpnn_arch.studies.ranks import RanksPool

            group = Processes.current
            yield lambda workers: RanksPool(group, self.parallel)
        elif self.name == "ray":
            from mpnn_arch.studies.ray_pool import RayPool, connected

            with connected(self.ray_address) as ray:

                def make_pool(workers: int) -> RayPool:
                    pool = RayPool(
                        ray,
                        folder,
                        workers=workers or None,
                        threads=settings.threads,
                        on_gpu=settings.device == "cuda",
                    )
                    pool.check_room()
                    return pool

                yield make_pool
        elif self.name == "submitit":
            from mpnn_arch.studies.submitit_pool import SubmititPool, make_executor

            job = {"cpus_per_task": str(settings.threads), "timeout_min": "1440", **self.job}
            if settings.device == "cuda":
                job.setdefault("gpus_per_node", "1")
            executor = make_executor(folder / "submitted" / "logs", self.cluster, job)
            yield lambda workers: SubmititPool(executor, folder, workers=workers)
        else:
            from mpnn_arch.studies.local_pool import LocalPool
            from mpnn_arch.studies.nursery import Nursery

            with Nursery() as nursery:
                yield lambda workers: LocalPool(nursery, workers, settings.timeout)


def threads_of(cores: int, workers: int) -> int:
    """Threads of torch in each worker; without workers, what torch has in this process.

    Torch does not know of a quota of time, or of an affinity that was changed after its import.
    """
    if workers:
        return max(1, cores // workers)
    import torch

    return min(cores, torch.get_num_threads())


def check_processes(begun: Mapping[int, str], now: str) -> None:
    """Compare the number of processes that began trials with the present one.

    Args:
        begun: number of a trial that was begun and is not done, and its processes in words.
        now: the present ones, in words.

    Raises:
        InputError: another number, or another way to share the work.
    """
    for trial, then in begun.items():
        if then != now:
            raise InputError(
                f"trial {trial} was begun by {then}, and now there is {now}: it would go on with "
                "other roundings; give the same command in as many processes (torchrun's "
                "--nproc-per-node, --parallel), or begin another study"
            )
