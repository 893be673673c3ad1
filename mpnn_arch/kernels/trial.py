"""Timing backends against one another on the tensors at hand."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from mpnn_arch.kernels.ops import Window, run
from mpnn_arch.kernels.plan import RoundPlan

# Each backend is timed this often, fewer times where it has taken this long; one whose better warm
# run takes this many times the quickest's is timed no more.
_MOST_TURNS, _FEWEST_TURNS, _SECONDS_ENOUGH, _HOPELESS = 9, 3, 0.25, 2.0


def time_backends(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    backends: list[str],
    window: Window | None = None,
    favourite: str | None = None,
) -> dict[str, list[float]]:
    """Seconds of forward and backward, each backend's turns after three untimed ones.

    ``favourite`` is timed to the end however its first runs went: others may have used the machine
    just then. Copies of the tensors are used, no gradient is left behind and no random number
    drawn.
    """
    device = x.device.type
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
    ):
        x = x.detach().clone().requires_grad_()
        weight = weight.detach().clone().requires_grad_()

        def turn(backend: str) -> float:
            _finish(x)
            start = time.perf_counter()
            y = run(x, weight, plan, window, backend)
            torch.autograd.grad(y, (x, weight), torch.ones_like(y))
            _finish(x)
            return time.perf_counter() - start

        warm: dict[str, float] = {}
        for backend in backends:
            # The first run makes tables, compiles and tunes.
            turn(backend)
            warm[backend] = min(turn(backend), turn(backend))
        best = min(warm.values())
        running = [b for b in backends if warm[b] <= _HOPELESS * best or b == favourite]
        timed: dict[str, list[float]] = {b: [] if b in running else [warm[b]] for b in backends}
        begun = time.perf_counter()
        for turns in range(_MOST_TURNS):
            if turns >= _FEWEST_TURNS and time.perf_counter() - begun > _SECONDS_ENOUGH:
                break
            for backend in running:
                turn(backend)  # untimed: a step finds its own kind's leavings in the caches
                timed[backend].append(turn(backend))
    return timed


def _finish(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
