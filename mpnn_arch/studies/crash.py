"""Named points at which a process can be made to die, for the tests of what it leaves behind.

Nothing happens unless the environment variable ``MPNN_ARCH_CRASH`` names a point; tests alone set
it. Its value is ``POINT``, or ``POINT:3`` for the third time that a process passes it, and after
that an action:

==============  ===================================================================
(none)          the process kills itself with SIGKILL
``=torn``       the file just written is cut to half first, as after a power failure
``=full``       nothing dies: the disk is full (an OSError)
==============  ===================================================================

With ``MPNN_ARCH_CRASH_ONCE=FILE`` it happens once for all processes: FILE is made then.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from pathlib import Path

#: Every point and what a stop there leaves behind; the fault test goes through all of them.
CRASH_POINTS = {
    "study.folder": "the folder of a new study is filled but does not have its name yet",
    "study.described": "study.json names trials that the ledger lacks",
    "ledger.transaction": "changes of the ledger are made but not committed",
    "ledger.committed": "changes are committed, and no watcher knows of them yet",
    "lease.given": "a trial is marked as running, but no worker got it",
    "race.decided": "a race has let trials go on, and stopped some whose checkpoints are there",
    "trial.accepted": "a trial is done, and its checkpoint is still there",
    "worker.received": "a worker has a trial and has not begun",
    "epoch.trained": "an epoch is trained and written down nowhere",
    "journal.half": "half a line of the epoch stands in the journal",
    "journal.written": "the epoch stands in the journal, the checkpoint is one behind",
    "checkpoint.written": "the checkpoint holds the epoch, the ledger does not",
    "epoch.sent": "the epoch is on its way to the ledger",
    "weights.written": "the weights are saved, the ledger holds the trial as running",
    "result.sent": "the end of the trial is on its way to the ledger",
}

_passed: Counter[str] = Counter()


def crash_point(name: str, path: Path | None = None) -> None:
    """Die here if the environment says so.

    Args:
        name: one of :data:`CRASH_POINTS`.
        path: the file that was written last.
    """
    wanted = os.environ.get("MPNN_ARCH_CRASH")
    if wanted is None:
        return
    place, _, action = wanted.partition("=")
    point, _, count = place.partition(":")
    if point != name:
        return
    _passed[name] += 1
    if _passed[name] != int(count or 1):
        return
    once = os.environ.get("MPNN_ARCH_CRASH_ONCE")
    if once is not None:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    if action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if action == "torn" and path is not None:
        os.truncate(path, path.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
