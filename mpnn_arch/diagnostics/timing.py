"""Interleaved timing of computations, and a description of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

import mpnn_arch
from mpnn_arch.kernels.dispatch.choice import cpu_name
from mpnn_arch.kernels.dispatch.turns import time_turns


@dataclass(frozen=True)
class Timing:
    """Seconds of one computation in every turn.

    Example:
        >>> from mpnn_arch.diagnostics.timing import Timing
        >>> Timing((0.2, 0.1, 0.4)).median
        0.2
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the turns, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the interquartile range over the median."""
        if len(self.seconds) < 3:
            return (max(self.seconds) - min(self.seconds)) / 2 / self.median
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    repeats: int = 15,
    *,
    device: torch.device | str = "cpu",
    warm_ups: int = 3,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time all runs in interleaved turns, so that other load on the machine affects all alike.

    See :func:`~mpnn_arch.kernels.dispatch.turns.time_turns`.

    Args:
        runs: by name; each is called warm_ups + 2 * repeats times.
        repeats: timed turns.
        device: synchronised with before the clock is read.
        warm_ups: untimed turns before.
        seconds: stop after this long, once there are three turns.
        clock: read before and after; ``time.process_time`` excludes the time of other programs on a
            busy machine, and is meant for one thread.

    Example:
        >>> from mpnn_arch.diagnostics.timing import interleaved
        >>> runs = {"sum": lambda: sum(range(100)), "max": lambda: max(range(100))}
        >>> timings = interleaved(runs, repeats=3)
        >>> sorted(timings)
        ['max', 'sum']
    """
    on_gpu = torch.device(device).type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else (lambda: None)
    for _ in range(warm_ups):
        for run in runs.values():
            run()
    wait()
    taken = time_turns(runs, repeats, seconds=seconds, wait=wait, clock=clock)
    return {name: Timing(tuple(times)) for name, times in taken.items()}


def machine(device: torch.device | str = "cpu") -> dict[str, str]:
    """The machine and the software versions, to be stored with a timing."""
    vectors = torch.backends.cpu.get_cpu_capability()
    record = {
        "processor": f"{cpu_name()}, {os.cpu_count()} cores, {vectors}",
        "threads": str(torch.get_num_threads()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "mpnn_arch": mpnn_arch.__version__,
    }
    if torch.device(device).type == "cuda":
        record["gpu"] = torch.cuda.get_device_name(device)
        record["cuda"] = str(torch.version.cuda)
    if hasattr(os, "getloadavg"):
        record["load"] = f"{os.getloadavg()[0]:.1f} when the timing began"
    return record
