import os
import signal
import subprocess
import sys

from mpnn_arch.io.lock import FolderLock, lock_holder


def test_the_holder_is_named_while_the_lock_is_held(tmp_path):
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    with FolderLock(path, "the folder") as lock:
        assert lock.taken_over_from is None
        assert f"process {os.getpid()} " in lock_holder(path)
    assert lock_holder(path) is None
    with FolderLock(path, "the folder") as lock:
        assert lock.taken_over_from is None  # it was released


def test_the_lock_of_a_dead_holder_is_taken_over_and_says_from_whom(tmp_path):
    path = tmp_path / "lock"
    code = f"""
import sys
from pathlib import Path
from mpnn_arch.io.lock import FolderLock
FolderLock(Path({str(path)!r}), "the folder").__enter__()
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert f"process {process.pid} on" in lock_holder(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.exists()
    assert lock_holder(path) is None
    with FolderLock(path, "the folder") as lock:
        assert f"process {process.pid} on" in lock.taken_over_from
