"""The process of the page: a waiting page at once, then marimo's server at the same port."""

from __future__ import annotations

import runpy
import sys
from socket import socket

from mpnn_arch.explorer.server import HOST
from mpnn_arch.explorer.waiting import WaitingPage


def hand_over(waiting: WaitingPage) -> None:
    """Close ``waiting`` when marimo's server is about to listen."""
    import uvicorn

    listen = uvicorn.Server.startup

    async def startup(self: uvicorn.Server, sockets: list[socket] | None = None) -> None:
        waiting.close()
        await listen(self, sockets)

    uvicorn.Server.startup = startup  # type: ignore[method-assign]


if __name__ == "__main__":
    hand_over(WaitingPage(HOST, int(sys.argv.pop(1))))
    runpy.run_module("marimo", run_name="__main__", alter_sys=True)
