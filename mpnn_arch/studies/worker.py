"""A worker process: takes tasks from its socket, trains them, sends what happens."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.studies.tasks import StorageError, Task, decode, encode, train_task


def work(channel: socket.socket) -> None:
    """Train what the driver sends until it closes the channel.

    The process ends at once when the driver does: a thread reads the channel all the time. After a
    trial that raised it ends too, since a failure may have left anything behind.

    Args:
        channel: a connected socket to the driver.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver says when to stop
    connection = Connection(channel.detach())
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    stop = threading.Event()

    def listen() -> None:
        while True:
            try:
                message = decode(connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # nobody is left to give results to
            if message["do"] == "stop":
                stop.set()
            else:
                tasks.put(Task(**message["task"]))

    threading.Thread(target=listen, daemon=True).start()
    send(connection, {"is": "hello", "process": os.getpid()})
    while True:
        task = tasks.get()
        if not run_task(task, connection, stop):
            return


def run_task(task: Task, connection: Connection, stop: threading.Event) -> bool:
    """Train one task; return whether the process is fit for another."""
    about = {"id": task.id, "lease": task.lease}

    def emit(event: dict[str, Any]) -> None:
        send(connection, {**about, **event})

    try:
        train_task(task, emit, stop.is_set)
        return True
    except StorageError as error:
        emit({"is": "storage", "reason": str(error)})
    except InputError as error:
        emit({"is": "failed", "reason": str(error), "detail": ""})
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        emit({"is": "failed", "reason": reason, "detail": traceback.format_exc()})
    return False


def send(connection: Connection, message: dict[str, Any]) -> None:
    """Send, or end if the driver is gone."""
    try:
        connection.send_bytes(encode(message))
    except OSError:
        os._exit(0)
