"""``mpnn-arch explore``: the page."""

from __future__ import annotations

import click


@click.command(short_help="Open a page: see a round, touch it, train its network.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to use.  [default: a free one]")
@click.option("--browser/--no-browser", default=True, help="Open a browser.", show_default=True)
def explore(port: int | None, browser: bool) -> None:
    """Open a page: choose a graph, step through its round, change it, and train its network.

    The page is served at 127.0.0.1, to this machine only, and requires the token in the address.
    Ctrl-C ends it.
    """
    from mpnn_arch.explorer.server import start

    address, process = start(port, show=browser)
    click.echo(f"the page is at {address}\nCtrl-C ends it")
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
