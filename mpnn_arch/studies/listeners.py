"""Listeners to a study's events beside the terminal: a log of JSON lines, TensorBoard."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mpnn_arch.checks import check_path
from mpnn_arch.errors import InputError
from mpnn_arch.io.json_text import format_json

Listener = Callable[[dict[str, Any]], None]
"""Takes an event of :meth:`~mpnn_arch.studies.study.Study.run`, as its ``watch``."""

_FIELDS = ("graph", "seed", "message", "aggr", "epochs", "reason", "given_up", "rung", "text")

_BEGINNING = b'{"time": "'  # of every line
_LONGEST_LINE = 1 << 20


class JSONLines:
    """Appends a line of JSON for every event; a context manager.

    Each has ``time`` (ISO 8601, UTC), ``event`` (``epoch``, ``done``, ``failed``, ``waiting``,
    ``stopped`` or ``note``), of a trial its ``trial`` (number), ``hash``, ``graph``, ``seed``,
    ``message`` and ``aggr``, of an epoch its metrics, ``wall`` seconds with evaluation and
    ``images_per_second`` (null where a continuation reports the epoch again). Numbers that are not
    finite are null. Every line is in the file when the next event comes, so that ``tail -f`` shows
    it.

    Args:
        path: the file; lines are added to what is there. A last line that a full disk or a kill
            cut short is removed.

    Raises:
        InputError: it cannot be written, now or later.
        BrokenPipeError: it is a pipe, and who read it has gone.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_path(path)
        try:
            self._file = self.path.open("ab", buffering=0)
            _repair(self.path)
            self._check_room()
        except OSError as error:
            raise InputError(
                f"the log {path} cannot be written ({error.strerror}); give another --log-json"
            ) from None

    def _check_room(self) -> None:
        """Notice a disk that is full before there is a study, without a byte in the file."""
        self._file.write(b"")  # for /dev/full
        if not hasattr(os, "fstatvfs"):
            return
        disk = os.fstatvfs(self._file.fileno())
        # A pipe, and a file system that does not say how large it is, has no blocks at all.
        if disk.f_blocks and not disk.f_bavail:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self) -> JSONLines:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one line."""
        line = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "event": event["is"],
        }
        if "id" in event:
            line |= {"trial": event["id"], "hash": event["hash"]}
        line |= {name: event[name] for name in _FIELDS if name in event}
        if event["is"] == "epoch":
            line |= {**event["metrics"], "wall": event["wall"]}
            line["images_per_second"] = event.get("images_per_second")
        text = format_json(line)
        left = f"{text}\n".encode()
        try:
            while left:  # a disk that fills up takes a part of the line and then none
                left = left[self._file.write(left) :]
        except BrokenPipeError:  # who read it has gone, as `head` does: no fault to be said
            raise
        except OSError as error:
            raise InputError(
                f"the log {self.path} cannot be written ({error.strerror}); free some space or "
                "give another --log-json, and the same command again: what is recorded stays"
            ) from None


class TensorBoard:
    """Writes the metrics of every epoch for TensorBoard, a run for each trial; a context manager.

    ::

        tensorboard --logdir DIR

    A continuation adds to the runs that are there; no epoch is written twice.

    Args:
        folder: where the runs go.

    Raises:
        InputError: TensorBoard is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter

            from mpnn_arch.studies.recording import weights_name
        except ImportError:
            raise InputError(
                'TensorBoard is not installed: pip install "mpnn-arch[tensorboard]"'
            ) from None
        self.folder = check_path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder {folder} cannot be written ({error.strerror}); give another "
                "--tensorboard"
            ) from None
        self._make, self._name = SummaryWriter, weights_name
        self._writers: dict[int, Any] = {}

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Write an epoch, or close the files of a trial that trains no more for now."""
        if event["is"] == "epoch":
            trial = event["id"]
            if trial not in self._writers:
                self._writers[trial] = self._make(str(self.folder / self._name(event)))
            metrics = event["metrics"]
            for name, value in metrics.items():
                if name != "epoch" and _is_number(value):
                    self._writers[trial].add_scalar(name, value, metrics["epoch"])
            self._writers[trial].flush()
        elif event["is"] != "note" and event.get("id") in self._writers:
            self._writers.pop(event["id"]).close()


def _repair(log: Path) -> None:
    """Remove a last line that was cut short; end one that is whole, or of another program.

    What is no regular file (``/dev/stdout``, a pipe) is left alone.
    """
    if not log.is_file():
        return
    with log.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _LONGEST_LINE))
        text = file.read()
        last = text[text.rfind(b"\n") + 1 :]
        if not last:
            return
        is_ours = last.startswith(_BEGINNING[: len(last)])
        if is_ours and not _is_json(last):
            file.truncate(start + len(text) - len(last))
        else:
            file.write(b"\n")


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def several(*listeners: Listener) -> Listener:
    """One listener that calls all of these, in order."""

    def call_all(event: dict[str, Any]) -> None:
        for listener in listeners:
            listener(event)

    return call_all


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
