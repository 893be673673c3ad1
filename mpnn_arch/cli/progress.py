"""From the options of commands that train to listeners of what is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any


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
