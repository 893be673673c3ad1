"""Jobs of a batch system, by submitit: one for every job of the driver.

Both sides see the study's folder. The driver writes what is to be trained into a file there, and
the job appends what happens to another; the driver reads on in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpnn_arch.checks import check_choice
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_text
from mpnn_arch.studies.import_paths import python_path
from mpnn_arch.studies.jobs import LAST, Job, run_job
from mpnn_arch.studies.queue_pool import QueuePool, lost
from mpnn_arch.studies.tasks import decode, encode

SILENCE = 15.0
"""Seconds after a job's end in which what it wrote may still come through a shared disk."""

_PAUSE = 0.5  # seconds between two looks at what jobs have written
_STOPPED_FROM_OUTSIDE = ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "CANCELLED", "BOOT_FAIL")


def run_submitted(base: str) -> None:
    """What a job does: read ``BASE.json``, train, append events to ``BASE.events``.

    It ends after the epoch in flight when there is a file ``BASE.stop``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver says when to stop
    job = Job.from_dict(json.loads(Path(f"{base}.json").read_text()))
    stop = Path(f"{base}.stop")
    with Path(f"{base}.events").open("ab", buffering=0) as file:

        def emit(event: dict[str, Any]) -> None:
            file.write(encode(event) + b"\n")
            os.fsync(file.fileno())

        run_job(job, emit, stop.exists)


def make_executor(folder: Path, cluster: str, parameters: Mapping[str, str]) -> Any:
    """submitit's executor.

    Args:
        folder: for its own files.
        cluster: ``"auto"`` (Slurm where there is one, else this machine), ``"slurm"`` or
            ``"local"``.
        parameters: of ``executor.update_parameters``, as ``slurm_partition`` or ``timeout_min``.

    Raises:
        InputError: submitit knows no such cluster or parameter.
    """
    import submitit

    check_choice("cluster of submitit", cluster, ("auto", "slurm", "local"))
    values = {n: int(v) if re.fullmatch("[0-9]+", v) else v for n, v in parameters.items()}
    try:
        executor = submitit.AutoExecutor(folder, None if cluster == "auto" else cluster)
        executor.update_parameters(**values)
    except (NameError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"submitit refuses that ({reason}); see its documentation, and mind that a parameter "
            "of Slurm alone begins with slurm_"
        ) from None
    return executor


@dataclass
class _Submitted:
    worker: str
    base: Path
    open: set[tuple[int, int]]  # trials whose last event has not come
    job: Any = None
    read: int = 0
    epochs: int = 0
    ended: bool = False
    quiet_since: float | None = None
    rest: bytes = b""
    thread: threading.Thread | None = field(default=None, repr=False)


class SubmititPool(QueuePool):
    """A worker is a place in the queue: each job that it gets is one of the batch system.

    A job that the batch system ended itself (time limit, preemption, a lost node), and that got on
    by an epoch or more, is queued again and counts as no failure.

    Args:
        executor: from :func:`make_executor`.
        folder: of the study, on a disk that all machines see.
        workers: jobs at a time.
    """

    def __init__(self, executor: Any, folder: Path, *, workers: int) -> None:
        super().__init__("submitit")
        self._executor = executor
        self._folder = folder.absolute() / "submitted"
        self._folder.mkdir(exist_ok=True)
        self.size = workers
        self._submitted: dict[str, _Submitted] = {}
        self._count = 0

    def start(self) -> str:
        """A place; return its name."""
        return self._new_name()

    def submit(self, worker: str, job: Job) -> None:
        """Hand a job to the batch system.

        Raises:
            InputError: it does not take it.
        """
        self._count += 1
        base = self._folder / f"{worker.rpartition('/')[2]}-{os.getpid()}-{self._count}"
        write_text(f"{base}.json", json.dumps(job.to_dict()))
        Path(f"{base}.events").touch()
        opened = {(task.id, task.lease) for task in job.tasks if task.lease}
        found = _Submitted(worker, base, opened)
        self._submitted[worker] = found
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = python_path()  # the batch system hands the environment on
        try:
            found.job = self._executor.submit(run_submitted, str(base))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(f"the batch system took no job ({reason})") from error
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        found.thread = threading.Thread(target=self._listen, args=(found,), daemon=True)
        found.thread.start()

    def _listen(self, found: _Submitted) -> None:
        try:
            self._follow(found)
        except Exception as error:  # its files are gone, or the batch system does not answer
            with suppress(Exception):
                found.job.cancel(check=False)
            reason = f"{type(error).__name__}: {error}"
            self.put(found.worker, lost(f"its job {found.job.job_id} cannot be followed: {reason}"))
        for path in found.base.parent.glob(f"{found.base.name}.*"):
            path.unlink(missing_ok=True)

    def _follow(self, found: _Submitted) -> None:
        """Hand on what the job writes, until all its trials have ended or it has."""
        while found.open and not found.ended:
            self._read(found)
            if found.open and self._is_over(found):
                self._report_end(found)
                return
            time.sleep(_PAUSE)

    def _read(self, found: _Submitted) -> None:
        """Hand on the lines that are new and whole."""
        with Path(f"{found.base}.events").open("rb") as file:
            file.seek(found.read)
            new = file.read()
        if not new:
            return
        found.read += len(new)
        found.quiet_since = None
        *lines, found.rest = (found.rest + new).split(b"\n")
        for line in lines:
            event = decode(line)
            found.epochs += event["is"] == "epoch"
            if event["is"] in LAST:
                found.open.discard((event["id"], event["lease"]))
            # Every job is a process of its own: the place stays fit for another.
            event.pop("leaves", None)
            self.put(found.worker, event)

    def _is_over(self, found: _Submitted) -> bool:
        """Whether the job has ended, and nothing has come from it for a while since."""
        if not found.job.done():
            return False
        now = time.monotonic()
        found.quiet_since = found.quiet_since or now
        here = type(found.job).__name__ == "LocalJob"
        return here or now - found.quiet_since > SILENCE

    def _report_end(self, found: _Submitted) -> None:
        self._read(found)
        if not found.open:
            return
        state = str(found.job.state)
        if found.epochs and state.startswith(_STOPPED_FROM_OUTSIDE):
            for trial, lease in sorted(found.open):
                reason = f"its job {found.job.job_id} was ended: {state}"
                event = {"is": "stopped", "id": trial, "lease": lease, "reason": reason}
                self.put(found.worker, event)
        else:
            self.put(found.worker, lost(f"its job {found.job.job_id} ended: {state}"))

    # -- the end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask all jobs to end after the epoch in flight."""
        for found in self._submitted.values():
            if found.open:
                with suppress(OSError):
                    Path(f"{found.base}.stop").touch()

    def _end(self, workers: Sequence[str]) -> None:
        for name in workers:
            found = self._submitted.get(name)
            if found is not None and found.open:
                with suppress(Exception):
                    found.job.cancel(check=False)
                found.ended = True
                if found.thread is not None:
                    found.thread.join(2 * _PAUSE)

    def close(self) -> None:
        """Cancel what still runs, and remove the files in between."""
        self._end(list(self._submitted))
        for found in self._submitted.values():
            if found.thread is not None:
                found.thread.join(5 * _PAUSE)
        self._submitted = {}
        if not any(self._folder.glob("*.json")):
            shutil.rmtree(self._folder, ignore_errors=True)
