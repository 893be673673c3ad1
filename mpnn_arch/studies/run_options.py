"""The options of a run that are numbers or words; checked before anything is made."""

from __future__ import annotations

import math
from typing import Literal

from mpnn_arch.errors import InputError

MOST_THREADS = 1024
"""Of one process, on this machine or another; many more overflow the stack in OpenMP."""


def check_run_options(
    workers: object, threads: object, population: object, timeout: object = None
) -> None:
    """Whether these can be given to :meth:`mpnn_arch.studies.study.Study.run`.

    Raises:
        InputError: one cannot.
    """
    if not (workers in (None, "auto") or _is_count(workers, least=0)):
        raise InputError(f"workers is an integer of at least 0 or auto, {workers!r} was given")
    if not (threads is None or (_is_count(threads) and threads <= MOST_THREADS)):  # type: ignore[operator]
        raise InputError(
            f"threads is an integer of at least 1 and at most {MOST_THREADS}, {threads!r} was given"
        )
    if workers == "auto" and threads is not None:
        raise InputError("workers auto decides on threads too; leave out threads")
    if not (population in (None, "auto", "off") or _is_count(population)):
        raise InputError(
            f"population is auto, off, or a number of networks of at least 1, {population!r} was "
            "given"
        )
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 < timeout < math.inf):  # type: ignore[operator]
        raise InputError(f"timeout is a number of seconds above 0, {timeout!r} was given")


def alone(population: object) -> Literal["off"]:
    """The population of a run with CUDA graphs.

    Raises:
        InputError: several networks are to be trained side by side, whose number changes.
    """
    if population in (None, "auto", "off", 1):
        return "off"
    raise InputError(
        f"a step as one CUDA graph trains one network, not {population} side by side; leave out "
        "--population, or --cuda-graphs"
    )


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
