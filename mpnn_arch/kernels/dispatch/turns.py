"""The timing loop: interleaved turns, so that other load affects all candidates alike."""

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

    Each timed call follows an untimed call of the same run: as in training, it finds the caches and
    freed memory that the same step has left, not those of another candidate.

    Args:
        runs: by name; each is called twice per turn.
        turns: how many.
        seconds: stop after this long, once there are three turns.
        wait: called before the clock is read, to synchronise with asynchronous work.
        clock: in seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    for turn in range(turns):
        if seconds is not None and turn >= 3 and time.perf_counter() - began > seconds:
            break
        for name, run in runs.items():
            run()
            wait()
            start = clock()
            run()
            wait()
            taken[name].append(clock() - start)
    return taken
