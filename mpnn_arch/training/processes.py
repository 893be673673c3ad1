"""The processes that ``torchrun`` started to train one network together."""

from __future__ import annotations

import datetime
import gc
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
import torch.distributed as dist

from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")

PATIENCE = datetime.timedelta(hours=2)
"""How long a process waits for the others: rank 0 may be evaluating, writing or loading data."""


@dataclass
class Processes:
    """A group of processes, one of which is this one; entered, they are connected.

    Attributes:
        rank: number of this process, from 0; rank 0 leads, and is the only one that writes.
        world_size: how many there are.
        local_rank: number of this process on its machine, which is the number of its GPU.
        in_step: whether all wait for rank 0; false once an epoch was cut off.
    """

    rank: int
    world_size: int
    local_rank: int
    in_step: bool = True
    _meshes: dict[str, DeviceMesh] = field(default_factory=dict, init=False, repr=False)

    current: ClassVar[Processes | None] = None
    """The group that is entered; None for a process that trains alone."""

    @classmethod
    def from_environment(cls) -> Processes | None:
        """The group that ``torchrun`` describes in the environment; None for a single process.

        Raises:
            InputError: half a description.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in names if name not in os.environ]
        try:
            rank, world_size, local = (int(os.environ.get(name, 0)) for name in names[:3])
        except ValueError:
            missing = list(names[:3])
        if missing:
            raise InputError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, but {' and '.join(missing)} is no "
                "number or not set; start several processes with torchrun"
            )
        return cls(rank, world_size, local)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device of this process: ``auto`` and ``cuda`` are the GPU of its number.

        Raises:
            InputError: a GPU by number, or fewer GPUs than processes on this machine.
        """
        if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return torch.device("cpu")
        if name not in ("auto", "cuda"):
            raise InputError(
                f"{self.world_size} processes cannot share the device {name!r}; choose auto, cpu "
                "or cuda"
            )
        if self.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {self.local_rank} of this machine has no GPU, torch finds "
                f"{torch.cuda.device_count()}; start fewer with --nproc-per-node, or --device cpu"
            )
        return torch.device("cuda", self.local_rank)

    def __enter__(self) -> Processes:
        # Objects and what lies on the CPU go through gloo.
        backend = "gloo"
        if torch.cuda.is_available() and self.local_rank < torch.cuda.device_count():
            backend = "cpu:gloo,cuda:nccl"
        self.bind()
        dist.init_process_group(backend, timeout=PATIENCE)
        Processes.current = self
        return self

    def bind(self) -> None:
        """Make this process's GPU, if it has one, that of the calling thread."""
        if torch.cuda.is_available() and self.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(self.local_rank)

    def __exit__(self, *exception: object) -> None:
        Processes.current = None
        # Out of step, the others would be waited for.
        if dist.is_initialized() and self.in_step:
            dist.destroy_process_group()
            self._free_meshes()

    def mesh(self, device_type: str) -> DeviceMesh:
        """All processes in a row, for tensors that are spread over them; one object per device."""
        from torch.distributed.device_mesh import init_device_mesh

        if device_type not in self._meshes:
            self._meshes[device_type] = init_device_mesh(device_type, (self.world_size,))
        return self._meshes[device_type]

    def _free_meshes(self) -> None:
        # torch caches the meshes of sharded operations for good, and a mesh keeps its group alive.
        # A thread of gloo that releases its last tensor while the interpreter ends would then abort
        # the process; freed here, the group waits for its threads.
        for mesh in self._meshes.values():
            getattr(mesh, "_pg_registry", {}).clear()
        self._meshes.clear()
        gc.collect()  # trainers in cycles, whose layers hold the group as well

    def broadcast(self, value: T | None = None) -> T:
        """What rank 0 gives, on every process."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """What every process gives, in the order of ranks, on every process."""
        boxes: list[Any] = [None] * self.world_size
        dist.all_gather_object(boxes, value)
        return boxes

    def together(self, make: Callable[[], T]) -> T:
        """``make()`` on every process; if it fails on one, it fails on all.

        Raises:
            InputError: it raised somewhere; the sentence of the first such process.
        """
        made: T | None = None
        problem: str | None = None
        try:
            made = make()
        except InputError as error:
            problem = str(error)
        except Exception as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        for rank, (text, host) in enumerate(self.gather((problem, socket.gethostname()))):
            if text is not None:
                raise InputError(text + (f" (process {rank}, on {host})" if rank else ""))
        return made  # type: ignore[return-value]
