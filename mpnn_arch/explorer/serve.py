"""The process of the page: a waiting page at once, then marimo's server at the same port.

The first line of its standard input is the token. It ends when that input does: with the process
that started it, however that ends.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from socket import socket

from mpnn_arch.explorer.server import HOST
from mpnn_arch.explorer.waiting import WaitingPage


def read_token() -> str:
    """The first line of standard input, read without a buffer, as a thread waits for the rest."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(0, 1)
        if not read:
            raise SystemExit("no token was given on standard input")
        line += read
    return line.decode().strip()


def end_with_the_input() -> None:
    """Wait for the end of standard input, and end this process."""
    while os.read(0, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def hand_over(waiting: WaitingPage) -> None:
    """Let marimo's server take the socket of ``waiting``, so that no connection is refused."""
    import uvicorn

    listen = uvicorn.Server.startup

    async def startup(self: uvicorn.Server, sockets: list[socket] | None = None) -> None:
        await listen(self, [waiting.hand_over()])

    uvicorn.Server.startup = startup  # type: ignore[method-assign]


if __name__ == "__main__":
    port = int(sys.argv.pop(1))
    waiting = WaitingPage(HOST, port)
    # In the arguments of this program alone: those that other users can list are not changed by it.
    sys.argv.append(f"--token-password={read_token()}")
    threading.Thread(target=end_with_the_input, daemon=True).start()
    hand_over(waiting)
    runpy.run_module("marimo", run_name="__main__", alter_sys=True)
