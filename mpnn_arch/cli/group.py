"""Commands that ``torchrun`` starts in several processes: rank 0 runs it, the others follow."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from mpnn_arch.errors import InputError

COMMANDS = ("sweep", "train")
"""What several processes can do together."""

GRACE = 4.0
"""Seconds after a signal until a process that follows ends by itself; rank 0 needs half of it."""


def is_group() -> bool:
    """Whether torchrun started this process and others."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


def in_group(arguments: Sequence[str], command: Callable[[], Any]) -> Any:
    """Run ``command`` on rank 0, with the others at its service.

    Args:
        arguments: of the command line; a command that one process has to run is refused.
        command: what rank 0 runs.

    Raises:
        InputError: the command is for a single process, or the processes do not find each other.
    """
    name = next((text for text in arguments if not text.startswith("-")), "")
    if name not in COMMANDS:
        raise InputError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, and only "
            f"{' and '.join(COMMANDS)} can use them; run mpnn-arch {name} without torchrun"
        )
    from mpnn_arch.training.processes import Processes

    processes = Processes.from_environment()
    assert processes is not None
    if not processes.leads:
        return _follow(processes)
    with processes:
        try:
            return command()
        finally:
            if processes.in_step:
                processes.broadcast({"do": "end"})


def _follow(processes: Any) -> int:
    """Do what rank 0 says; its output is the group's."""
    from mpnn_arch.studies.interrupts import answer_stops
    from mpnn_arch.studies.ranks import follow

    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if not asked.is_set():
            asked.set()
            timer = threading.Timer(GRACE, os._exit, (130,))
            timer.daemon = True
            timer.start()

    answer_stops(ask)
    try:
        with processes:
            follow(processes)
    except InputError:
        processes.in_step = False
        raise
    except RuntimeError as error:
        processes.in_step = False
        if not asked.is_set():
            reason = " ".join(str(error).split())[:200]
            print(
                f"mpnn-arch: process {processes.rank} lost the others ({reason})", file=sys.stderr
            )
        sys.stderr.flush()
        # At once: leaving the group would wait for the others.
        os._exit(130 if asked.is_set() else 1)
    return 0
