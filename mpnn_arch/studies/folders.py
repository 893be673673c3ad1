"""Checkpoints and weights that a worker without the study's disk gets and gives back as bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from mpnn_arch.io.files import write_whole
from mpnn_arch.studies.jobs import Job

FOLDERS = ("checkpoints", "weights")

Files = dict[str, bytes]
"""Contents by name in the study's folder, as ``checkpoints/HASH.safetensors``."""


def files_of(folder: Path, job: Job) -> Files:
    """What a study has of the trials of a job: both generations of checkpoints, and journals."""
    found: Files = {}
    hashes = [task.hash for task in job.tasks] + ([job.population] if job.population else [])
    for hash in hashes:
        for path in sorted((folder / "checkpoints").glob(f"*{hash}*")):
            try:
                found[f"checkpoints/{path.name}"] = path.read_bytes()
            except FileNotFoundError:
                continue
    return found


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what a worker gave back, each file atomically.

    Raises:
        InputError: they cannot be written.
        ValueError: a name that leads out of the two folders.
    """
    for name, content in files.items():
        parent, _, leaf = name.partition("/")
        if parent not in FOLDERS or not leaf or "/" in leaf or leaf.startswith("."):
            raise ValueError(f"a worker gave back a file {name[:80]!r}")
        write_whole(folder / parent / leaf, partial(Path.write_bytes, data=content))


class Away:
    """The folder of a study on a machine that does not have it.

    Args:
        folder: empty.
        files: from :func:`files_of`.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self.folder = folder
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        write_files(folder, files)
        self._seen = dict(self._stamps())

    def move(self, job: Job) -> Job:
        """The job with this folder in place of the study's."""
        tasks = tuple(dataclasses.replace(task, folder=str(self.folder)) for task in job.tasks)
        return dataclasses.replace(job, tasks=tasks)

    def changed(self) -> Files:
        """What was written since the last call."""
        now = dict(self._stamps())
        new = [name for name, stamp in now.items() if self._seen.get(name) != stamp]
        self._seen = now
        return {name: (self.folder / name).read_bytes() for name in new}

    def _stamps(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for parent in FOLDERS:
            for path in sorted((self.folder / parent).iterdir()):
                if not path.name.startswith("."):
                    about = path.stat()
                    yield f"{parent}/{path.name}", (about.st_mtime_ns, about.st_ino)
