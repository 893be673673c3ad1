"""Without ``fcntl``, as on Windows: the package is imported, computes, and locks folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# A module that is missing, and what else Windows lacks.
WITHOUT = """
import fcntl, os, sys
import torch
import torch_geometric.nn  # psutil, which it needs, asks for what this system has
real = fcntl
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("geteuid", "getuid", "pread", "pwrite", "O_NOFOLLOW", "O_NONBLOCK", "fork"):
    delattr(os, name)
try:
    import fcntl
except ImportError:
    pass
else:
    raise AssertionError("fcntl is there")
"""

COMPUTE = """
import warnings
import mpnn_arch
from mpnn_arch import graphs
from mpnn_arch.kernels import cpu
os.environ["MPNN_ARCH_KERNELS"] = "compile"
warnings.simplefilter("ignore")
layer = mpnn_arch.RelationalLinear(graphs.ring(6, 2), 12, 12, backend="auto")
layer(torch.ones(3, 12)).sum().backward()
assert set(layer.backend_choices.values()) <= {"masked", "gather"}, layer.backend_choices
assert layer.backend_choices
assert "on Linux and macOS only" in cpu.unavailable_reason()
print("worked")
"""

# `msvcrt.locking` locks a range of bytes at the file's position; so does `lockf`, for a process.
LOCK = """
import types
def locking(file, mode, count):
    assert (mode, count) == (2, 1)
    assert os.lseek(file, 0, os.SEEK_CUR) >= 1 << 20  # a range in the text could not be read
    real.lockf(file, real.LOCK_EX | real.LOCK_NB, 1, os.lseek(file, 0, os.SEEK_CUR))
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
from pathlib import Path
from mpnn_arch.errors import InputError
from mpnn_arch.io.lock import FolderLock, lock_holder
path = Path(sys.argv[1])
if sys.argv[2] == "hold":
    with FolderLock(path, "the folder") as lock:
        assert lock.taken_over_from is None
        print("held", flush=True)
        input()
    assert not path.exists()
else:
    assert f"process {sys.argv[2]} on " in lock_holder(path)
    try:
        with FolderLock(path, "the folder"):
            raise AssertionError("two hold it")
    except InputError as error:
        assert f"is being written by process {sys.argv[2]} on " in str(error)
print("worked")
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", WITHOUT + code, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], words: str = "") -> str:
    out, errors = process.communicate(words, timeout=300)
    assert process.returncode == 0, errors
    return out.strip()


def test_import_and_compute_without_fcntl() -> None:
    assert end(start(COMPUTE)) == "worked"


def test_the_lock_of_windows(tmp_path: Path) -> None:
    holder = start(LOCK, str(tmp_path / "lock"), "hold")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n", end(holder)
    assert end(start(LOCK, str(tmp_path / "lock"), str(holder.pid))) == "worked"
    assert end(holder, "\n") == "worked"
