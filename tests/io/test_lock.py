import os
import signal
import subprocess
import sys
import threading

from mpnn_arch.io.file_locks import try_lock
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


def test_who_only_asks_for_the_holder_keeps_nobody_from_the_lock(tmp_path):
    path = tmp_path / "lock"
    path.touch()  # as a process that was killed leaves it
    asking = os.open(path, os.O_RDONLY)
    assert try_lock(asking, shared=True)
    later = threading.Timer(0.02, os.close, [asking])
    later.start()
    with FolderLock(path, "the folder"):
        later.join()


def test_a_lock_that_cannot_be_removed_is_released(tmp_path, monkeypatch):
    path = tmp_path / "lock"

    def refuse(*arguments, **more):
        raise PermissionError

    with FolderLock(path, "the folder"):
        monkeypatch.setattr(os, "unlink", refuse)  # the folder's permissions were changed
    assert lock_holder(path) is None
    with FolderLock(path, "the folder") as lock:
        assert lock.taken_over_from is None
