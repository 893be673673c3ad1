"""What the page shows until marimo, which takes seconds to import, can serve it.

Meanwhile the browser fetches the 180 files of marimo's front end, so that it has them then.
"""

from __future__ import annotations

import importlib.util
import mimetypes
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from mpnn_arch.explorer.mark import INTRO, title_mark

# What /health answers until then; marimo's answer is another.
STARTING = b"starting"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>mpnn-arch explore</title>
{links}
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem; max-width: 44rem; }}
header {{ display: flex; gap: 1rem; align-items: center; }}
</style>
</head>
<body>
<header>{mark}<h1>A layer is a round of message exchange</h1></header>
<p>{intro}</p>
<p role="status" data-page="starting">The page is starting, which takes a few seconds.</p>
<script>
let missed = 0;
const ask = async () => {{
  try {{
    const answer = await fetch("/health", {{ cache: "no-store" }});
    if (answer.ok && (await answer.text()) !== "starting") return location.reload();
    missed = 0;
  }} catch {{
    missed += 1;
  }}
  if (missed > 100) {{
    document.querySelector("[data-page]").textContent =
      "The page's server has ended: what it said is in the terminal of mpnn-arch explore.";
  }}
  setTimeout(ask, 150);
}};
ask();
</script>
</body>
</html>
"""


class _Handler(BaseHTTPRequestHandler):
    page = b""
    assets: ClassVar[dict[str, Path]] = {}

    def do_GET(self) -> None:
        place = self.path.partition("?")[0]
        if place == "/health":
            self._answer(STARTING, "text/plain")
        elif place in self.assets:
            # A name holds the hash of what it names.
            path = self.assets[place]
            kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path)[0]
            self._answer(path.read_bytes(), kind or "application/octet-stream", "max-age=86400")
        else:
            self._answer(self.page, "text/html; charset=utf-8")

    def _answer(self, body: bytes, kind: str, cache: str = "no-store") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", cache)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the terminal is the user's."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections that wait while nobody accepts them

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: the browser drops what it still fetches when it loads the page itself."""


class WaitingPage:
    """A server of one page, which reloads itself once another program serves the port.

    Args:
        host, port: to listen at.

    Raises:
        OSError: the port is in use.
    """

    def __init__(self, host: str, port: int) -> None:
        links, assets = _front_end()
        page = _PAGE.format(mark=title_mark(), intro=INTRO, links=links).encode()
        handler = type("Handler", (_Handler,), {"page": page, "assets": assets})
        self._server = _Server((host, port), handler)
        serve = self._server.serve_forever
        threading.Thread(target=serve, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def hand_over(self) -> socket.socket:
        """Stop answering; the socket that is returned listens, so that connections wait there."""
        self._server.shutdown()
        return self._server.socket


def _front_end() -> tuple[str, dict[str, Path]]:
    """The links to marimo's assets in its page, as HTML, and their files by path; empty if none."""
    found = importlib.util.find_spec("marimo")
    folder = Path(found.origin).parent / "_static" if found and found.origin else Path()
    try:
        page = (folder / "index.html").read_text(encoding="utf-8")
    except OSError:
        return "", {}
    names = re.findall(r'"\./(assets/[\w.-]+)"', page)
    links = re.findall(r'<link rel="(?:modulepreload|preload)"[^>]*>', page)
    return "\n".join(links), {f"/{name}": folder / name for name in names}
