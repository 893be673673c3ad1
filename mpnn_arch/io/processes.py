"""Which process wrote a name, and whether that process still runs."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def place() -> str:
    """Eight digits for this host and its space of process numbers.

    The same number names different processes on different hosts and in different containers.
    """
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]


def start_of(pid: int) -> int:
    """When process ``pid`` started, in clock ticks since boot; 0 if unknown or not running.

    A process number is used again after its process has ended; the two together are not.
    """
    try:
        # The name of the command, in parentheses, can hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        state, start = fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0
    return 0 if state in "ZX" else start  # Z, X: it has ended


def is_running(pid: int, start: int) -> bool:
    """Whether the process ``pid`` that started at ``start`` runs on this host."""
    if Path("/proc/self/stat").exists():
        return start_of(pid) == start != 0
    if sys.platform == "win32":
        return _is_running_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _is_running_on_windows(pid: int) -> bool:
    # `os.kill(pid, 0)` does not only ask there: it sends Ctrl+C.
    import ctypes

    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel32.OpenProcess.restype = ctypes.c_void_p
    synchronize, still_waiting, access_denied = 0x00100000, 0x102, 5
    process = kernel32.OpenProcess(synchronize, False, pid)
    if not process:
        return bool(ctypes.get_last_error() == access_denied)  # type: ignore[attr-defined]
    try:
        return bool(kernel32.WaitForSingleObject(ctypes.c_void_p(process), 0) == still_waiting)
    finally:
        kernel32.CloseHandle(ctypes.c_void_p(process))
