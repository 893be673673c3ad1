"""How many cores this process may use, which may be fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


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
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Seconds of processor time a second, of the process's control group and of those above."""
    try:
        lines = _GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        root = _MOUNT / names  # of version 2, which has no names, the mount itself
        folder = root / path.lstrip("/")
        # In a container the path may be that outside it: then the root is its group.
        for group in (folder, *(one for one in folder.parents if one.is_relative_to(root))):
            quota = _quota(group)
            if quota is not None:
                yield quota


def _quota(group: Path) -> float | None:
    """Of one group; None: it has no limit, or is not there."""
    try:
        if (group / "cpu.max").exists():
            time, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            time = (group / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii")
        quota = int(time) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None
    return quota if quota > 0 else None
