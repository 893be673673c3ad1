"""The page's server: marimo, on this machine alone, behind a token."""

from __future__ import annotations

import importlib.util
import secrets
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress
from importlib import resources
from typing import Any

from mpnn_arch.errors import InputError

HOST = "127.0.0.1"
# Seconds until a closed tab's session ends.
SESSION = 10


def free_port(wanted: int | None) -> int:
    """``wanted``, or a port that is free.

    Raises:
        InputError: another program uses it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port {wanted} cannot be used ({error}): choose another with --port, or none"
            ) from None
        return int(probe.getsockname()[1])


def start(port: int | None = None, *, show: bool = True) -> tuple[str, subprocess.Popen[bytes]]:
    """Start the server, and return once it listens.

    It shows a waiting page, in less than a second, and the page itself in its place when marimo is
    imported.

    Args:
        port: to listen at; None for one that is free.
        show: whether to open a browser.

    Returns:
        The address, with its token, and the server's process, which ends with the caller's.

    Raises:
        InputError: a package that the page needs is not installed, the port is in use, or the
            server ended.
    """
    missing = [name for name in ("anywidget", "marimo") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the page needs {' and '.join(missing)}, not installed here: "
            'pip install "mpnn-arch[explorer,demo]"'
        )
    port, token = free_port(port), secrets.token_urlsafe(16)
    app = str(resources.files("mpnn_arch.explorer") / "app.py")
    command = [sys.executable, "-m", "mpnn_arch.explorer.serve", str(port)]
    command += ["-q", "-y", "run", app, f"--host={HOST}", f"--port={port}", "--no-sandbox"]
    command += ["--headless", "--token", f"--session-ttl={SESSION}"]
    # Ctrl-C is for the program that started it, which then ends it.
    alone: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, **alone)
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):  # it has ended, which is said below
            # Not on the command line, which others can read. The pipe is left open, see `serve`.
            process.stdin.write(f"{token}\n".encode())
        _wait_until_it_listens(process, port)
    except BaseException:
        process.kill()
        raise
    address = f"http://{HOST}:{port}/?access_token={token}"
    if show:
        webbrowser.open(address)
    return address, process


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise InputError(
        f"the page's server ended with exit code {process.returncode} before it listened at port "
        f"{port}; its own message stands above"
    )
