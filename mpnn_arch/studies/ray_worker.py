"""A worker that Ray starts: it trains jobs, on any machine, and yields what happens."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mpnn_arch.studies.folders import Away, Files
from mpnn_arch.studies.jobs import Job, run_job


class RayWorker:
    """The class of the actors; see :class:`~mpnn_arch.studies.ray_pool.RayPool`."""

    def __init__(self) -> None:
        # Import errors of the other machine are those of the actor's beginning.
        import mpnn_arch.studies.tasks  # noqa: F401

        self._stopping = threading.Event()

    def describe(self, lock: str, text: str) -> dict[str, Any]:
        """Where it is, and whether it sees the study's folder.

        Args:
            lock: path of the study's lock, which the driver holds.
            text: what stands in it, which no other study's lock and no copy has.
        """
        try:
            shared = Path(lock).read_text(encoding="utf-8") == text
        except (OSError, ValueError):
            shared = False
        return {"host": socket.gethostname(), "process": os.getpid(), "shared": shared}

    def train(self, described: dict[str, Any], files: Files | None) -> Iterator[Any]:
        """Train a job; yield each event with the files that were written before it.

        Args:
            described: ``Job.to_dict()``.
            files: None: the study's folder is here; else what the study has of the job's trials.
        """
        job = Job.from_dict(described)
        away, folder = None, None
        if files is not None:
            folder = Path(tempfile.mkdtemp(prefix="mpnn-arch-"))
            away = Away(folder, files)
            job = away.move(job)
        events: queue.SimpleQueue[tuple[dict[str, Any], Files] | None] = queue.SimpleQueue()

        def emit(event: dict[str, Any]) -> None:
            events.put((event, away.changed() if away else {}))

        def run() -> None:
            try:
                run_job(job, emit, self._stopping.is_set)
            finally:
                events.put(None)

        threading.Thread(target=run, daemon=True).start()
        try:
            while (found := events.get()) is not None:
                yield found
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """End the job after the epoch in flight."""
        self._stopping.set()
