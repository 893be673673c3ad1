"""What commands print: names as they are, and tables of which nothing is cut off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnn_arch.cli.streams import Progress
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import check_writable, shown_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FOLDED = 24
"""Characters that a column with ``overflow="fold"`` has at least, where its words are longer."""

PICTURES = (".png", ".pdf", ".svg")
"""Endings of the pictures that commands draw."""

_UNBOUNDED = 100_000


def new_console(**options: Any) -> Console:
    """A console that takes no text for markup, and wraps sentences in a terminal only.

    Names of files, graphs and folders, and reasons of failures, may hold ``[/x]`` or ``:x:``.

    Args:
        **options: of ``rich.console.Console``; ``stderr=True`` for progress, which may be lost.
    """
    from rich.console import Console

    if options.get("stderr"):
        options["file"] = Progress()
    console = Console(markup=False, emoji=False, **options)
    console.soft_wrap = not console.is_terminal
    return console


def check_picture(path: Path) -> None:
    """Whether a picture can be written to ``path``; to be asked before anything is drawn.

    Raises:
        InputError: it has another ending or none, or is a folder or a device.
    """
    check_writable(path)
    if path.suffix not in PICTURES:
        raise InputError(
            f"a picture is a {', '.join(PICTURES[:-1])} or {PICTURES[-1]} file, by the ending of "
            f"its name, not {shown_path(path)}; give a name such as graph{PICTURES[0]}"
        )


def print_table(console: Console, table: Table, *, wrap: bool = False) -> None:
    """Print ``table``, its lines as long as they have to be.

    In a terminal, cells of several words are wrapped to its width, and names in columns with
    ``overflow="fold"`` folded down to :data:`FOLDED` characters; where even that is too wide, the
    terminal breaks the lines. In a pipe or a file nothing is wrapped, so that a row is a line.

    Args:
        console: from :func:`new_console`.
        table: gets the widths of its columns.
        wrap: wrap to ``console.width`` in a file too, for tables of sentences.
    """
    wanted = console.width if console.is_terminal or wrap else _UNBOUNDED
    width = set_widths(console, table, wanted)
    if width > console.width:
        console.width = width
    console.print(table, highlight=False, crop=False)


def set_widths(console: Console, table: Table, width: int) -> int:
    """Give every column its width, such that ``table`` has at most ``width`` if that can be.

    No column is narrower than its longest word, or :data:`FOLDED` where it is folded.

    Returns:
        The width that the table has.
    """
    unbounded = console.options.update_width(_UNBOUNDED)
    least, lacking = [], []
    for column in table.columns:
        sizes = [console.measure(c, options=unbounded) for c in (column.header, *column.cells)]
        word, most = max(s.minimum for s in sizes), max(s.maximum for s in sizes)
        least.append(most if column.no_wrap else word)
        if column.overflow == "fold":
            least[-1] = min(word, FOLDED)
        lacking.append(most - least[-1])
    frame = console.measure(table, options=unbounded).maximum - sum(least) - sum(lacking)
    room = max(0, width - frame - sum(least))
    # What is left goes to those first that lack least.
    for number, index in enumerate(sorted(range(len(least)), key=lambda i: lacking[i])):
        given = min(lacking[index], room // (len(least) - number))
        table.columns[index].width = least[index] + given
        room -= given
    # Asked again, as rich before 15 pads the last column of a given width in spite of ``pad_edge``.
    return console.measure(table, options=unbounded).maximum
