"""The process that makes workers: it imports torch once and forks one whenever it is asked.

A worker that was killed is replaced in milliseconds, workers share the memory of what is imported,
and a script that starts a study needs no ``if __name__ == "__main__"``: its main module is not run
again. The process itself computes nothing, so a fork finds no threads and no device in use.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, Protocol

from mpnn_arch.errors import InputError
from mpnn_arch.studies.import_paths import python_path
from mpnn_arch.studies.interrupts import ignore_stops

_MAIN = "import sys; from mpnn_arch.studies.nursery import serve; serve(int(sys.argv[1]))"


class Process(Protocol):
    """What is needed of a process, as ``subprocess.Popen`` has it."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or TimeoutExpired."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...


class Nursery:
    """Starts workers for a driver and says how they ended; a context manager."""

    def __init__(self) -> None:
        self._endings: dict[int, int] = {}
        self._process: Process | None = None
        self._channel: socket.socket | None = None

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            # It ends by itself when it reads the end of its socket, if it has begun to read.
            try:
                self._process.wait(0.5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process = None

    def start(self) -> Connection:
        """A new worker; return the driver's end of its channel."""
        ours, theirs = socket.socketpair()
        for _ in range(2):
            if self._channel is None:
                self._channel, self._process = launch_process()
            try:
                socket.send_fds(self._channel, [b"w"], [theirs.fileno()])
                break
            except OSError:  # it was killed; the next one is as good
                self._close()
        else:
            raise InputError("workers cannot be started; see the messages above")
        theirs.close()
        return Connection(ours.detach())

    def ending(self, process: int | None) -> str:
        """How the worker with this number ended, in words."""
        status = self._wait_for(process) if process is not None else None
        if status is None:
            return "its worker process ended"
        if status == -signal.SIGKILL:
            return (
                "its worker process was killed (signal 9), as the system does when memory runs out"
            )
        if status < 0:
            return f"its worker process died of signal {-status}"
        return f"its worker process ended with exit code {status}"

    def _wait_for(self, process: int) -> int | None:
        until = time.monotonic() + 1
        while process not in self._endings and time.monotonic() < until:
            if self._channel is None or not select.select([self._channel], [], [], 0.1)[0]:
                continue
            raw = self._channel.recv(16 * 256)
            if not raw:
                return None
            for start in range(0, len(raw) - 15, 16):
                ended, status = (
                    int.from_bytes(raw[start + at : start + at + 8], "little", signed=True)
                    for at in (0, 8)
                )
                self._endings[ended] = status
        return self._endings.pop(process, None)


def launch_process() -> tuple[socket.socket, Process]:
    """Start the process; return our end of its channel, and the process."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path()},
        start_new_session=True,  # Ctrl-C in a terminal is for the driver alone
    )
    theirs.close()
    return ours, process


def serve(descriptor: int) -> None:
    """Fork a worker for every socket that comes in; report every one that ends.

    Args:
        descriptor: of the channel to the driver; its end is the end of this process.
    """
    from mpnn_arch.studies import worker  # imports torch, before any fork

    ignore_stops()
    os.dup2(2, 1)  # the driver's standard output is for its table
    control = socket.socket(fileno=descriptor)
    while True:
        if select.select([control], [], [], 0.05)[0]:
            try:
                _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            except ConnectionError:  # the driver left without reading every ending
                return
            if not descriptors:
                return
            os.set_inheritable(descriptors[0], False)
            channel = socket.socket(fileno=descriptors[0])
            if os.fork() == 0:
                _become_worker(control, channel, worker.work)
            channel.close()
        _report_ended(control)


def _become_worker(control: socket.socket, channel: socket.socket, work: Any) -> None:
    code = 1
    try:
        control.close()
        work(channel)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _report_ended(control: socket.socket) -> None:
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not process:
            return
        code = os.waitstatus_to_exitcode(status)
        record = b"".join(n.to_bytes(8, "little", signed=True) for n in (process, code))
        try:
            control.sendall(record)
        except OSError:
            return
