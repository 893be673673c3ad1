"""A worker process: takes jobs from its socket, trains them, sends what happens."""

from __future__ import annotations

import os
import queue
import socket
import threading
from multiprocessing.connection import Connection
from typing import Any

from mpnn_arch.studies.interrupts import ignore_stops
from mpnn_arch.studies.jobs import Job, run_job
from mpnn_arch.studies.tasks import decode, encode


def work(channel: socket.socket) -> None:
    """Train what the driver sends until it closes the channel.

    The process ends at once when the driver does: a thread reads the channel all the time. After a
    trial that raised it ends too, since a failure may have left anything behind.

    Args:
        channel: a connected socket to the driver.
    """
    ignore_stops()
    connection = Connection(channel.detach())
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    stop = threading.Event()

    def listen() -> None:
        while True:
            try:
                message = decode(connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # the driver has ended
            if message["do"] == "stop":
                stop.set()
            else:
                jobs.put(Job.from_dict(message["job"]))

    threading.Thread(target=listen, daemon=True).start()
    send(connection, {"is": "hello", "process": os.getpid()})

    def emit(event: dict[str, Any]) -> None:
        send(connection, event)

    while run_job(jobs.get(), emit, stop.is_set):
        pass


def send(connection: Connection, message: dict[str, Any]) -> None:
    """Send, or end if the driver is gone."""
    try:
        connection.send_bytes(encode(message))
    except OSError:
        os._exit(0)
