"""Run marimo's server, and import what the page's round needs while the browser starts it."""

from __future__ import annotations

import runpy
import socket
import sys
import threading
import time

from mpnn_arch.explorer.server import HOST


def preload(port: int) -> None:
    """Once the server listens at ``port``, import torch and the widget.

    Before, marimo's own imports come first; after, the page asks for them a second or two later,
    when its front end has started in the browser.
    """
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    import mpnn_arch.widget  # noqa: F401


if __name__ == "__main__":
    port = int(sys.argv.pop(1))
    threading.Thread(target=preload, args=(port,), daemon=True).start()
    runpy.run_module("marimo", run_name="__main__", alter_sys=True)
