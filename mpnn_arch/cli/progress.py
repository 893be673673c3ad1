"""Options of commands that train: what is reported meanwhile, and where to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def progress_options(command: Command) -> Command:
    """Give a command ``--quiet``, ``--log-json`` and ``--tensorboard``."""
    for option in (
        click.option(
            "--tensorboard",
            type=click.Path(path_type=Path, file_okay=False),
            help="Write every epoch into this folder for TensorBoard.",
        ),
        click.option(
            "--log-json",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Append a line of JSON to this file for every epoch and every end of a trial.",
        ),
        click.option("--quiet", is_flag=True, help="Print the closing table only."),
    ):
        command = option(command)
    return command


@contextmanager
def open_listeners(
    *, log_json: Path | None, tensorboard: Path | None
) -> Iterator[list[Callable[[dict[str, Any]], None]]]:
    """The listeners to a study's events that the options ask for, open while entered.

    Raises:
        InputError: a file that cannot be written, or TensorBoard missing.
    """
    from mpnn_arch.studies.listeners import JSONLines, TensorBoard

    with ExitStack() as stack:
        found: list[Callable[[dict[str, Any]], None]] = []
        if tensorboard is not None:
            found.append(stack.enter_context(TensorBoard(tensorboard)))
        if log_json is not None:
            found.append(stack.enter_context(JSONLines(log_json)))
        yield found
