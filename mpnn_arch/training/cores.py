"""How many cores this process may use, which may be fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

from mpnn_arch.training.control_groups import groups_of, read_number


def available_cores() -> int:
    """Cores that this process may use.

    Counted are those of its affinity (``taskset``, Slurm's ``--cpus-per-task``), and no more than
    the quota of time of its control group, which ``docker run --cpus`` and Kubernetes set: torch
    and Python see all cores there, and as many threads would wait for each other's time.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quotas = [quota for group in groups_of("cpu") if (quota := _quota(group)) is not None]
    return max(1, min([cores, *map(math.ceil, quotas)]))


def _quota(group: Path) -> float | None:
    """Seconds of processor time a second; None: the group has no limit, or is not there."""
    try:  # of version 2: "200000 100000", or "max 100000"
        time, period = map(int, (group / "cpu.max").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        time = read_number(group / "cpu.cfs_quota_us") or 0
        period = read_number(group / "cpu.cfs_period_us") or 0
    return time / period if time > 0 and period > 0 else None
