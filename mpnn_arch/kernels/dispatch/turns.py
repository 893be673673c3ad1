"""The one timing loop: candidates in turn, so that a busy moment strikes all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_turns(
    runs: Mapping[str, Callable[[], object]],
    turns: int,
    *,
    seconds: float | None = None,
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every run, turn by turn.

    Right before it is timed, a run is run untimed: in training a step follows its like, and finds
    the caches and freed memory that the like has left, not those of another candidate.

    Args:
        runs: by name; each is called twice a turn.
        turns: how many.
        seconds: stop after this long, once there are three turns.
        wait: called before the clock is read, for work that runs on behind the call.
        clock: in seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for turn in range(turns):
        if seconds is not None and turn >= 3 and time.perf_counter() - begun > seconds:
            break
        for name, run in runs.items():
            run()
            wait()
            start = clock()
            run()
            wait()
            taken[name].append(clock() - start)
    return taken
