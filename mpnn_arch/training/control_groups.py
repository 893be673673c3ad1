"""The control groups of this process, by which containers and batch systems share out a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def groups_of(controller: str) -> Iterator[Path]:
    """Folders of the groups that limit this process, from its own to the one above all.

    Folders that are not there are among them: in a container the path may be that outside it, and
    the root is its group.

    Args:
        controller: ``"cpu"`` or ``"memory"``, of version 1; the groups of version 2 have both.
    """
    try:
        lines = _GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = _MOUNT / names  # of version 2, which has no names, the mount itself
        folder = root / path.lstrip("/")
        yield from (folder, *(one for one in folder.parents if one.is_relative_to(root)))


def read_number(file: Path) -> int | None:
    """The number in ``file``; None: there is none, as where it holds ``max``."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
