"""``mpnn-arch explore``: the page."""

from __future__ import annotations

import click


@click.command(short_help="Open a page: see a round, touch it, train its network.")
@click.option("--port", type=click.IntRange(1, 65535), help="To listen at.  [default: a free one]")
@click.option("--browser/--no-browser", default=True, help="Open a browser.", show_default=True)
def explore(port: int | None, browser: bool) -> None:
    """Choose a graph, see its round and touch it, and train its network, on a page.

    The page is served on this machine alone, at 127.0.0.1, to whoever has the token in the address.
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
