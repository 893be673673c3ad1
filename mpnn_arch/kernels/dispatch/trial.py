"""Timing backends against one another on the tensors at hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mpnn_arch.kernels import backends
from mpnn_arch.kernels.dispatch.tracing import untraced
from mpnn_arch.kernels.dispatch.turns import time_turns
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.product import Product

# Each backend is timed this often, three times where all have taken this long; one whose better
# warm run takes this many times the quickest's is timed no more.
_TURNS, _SECONDS_ENOUGH, _HOPELESS = 9, 0.25, 2.0


def time_backends(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    names: list[str],
    geometry: ConvGeometry | None = None,
    favourite: str | None = None,
) -> dict[str, list[float]]:
    """Seconds of forward and backward, each backend's turns after three untimed ones.

    ``favourite`` is timed to the end however its first runs went: others may have used the machine
    just then. Copies of the tensors are used, no gradient is left behind and no random number
    drawn.
    """

    def wait() -> None:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    with (
        untraced(),
        saved_tensors_hooks(_same, _same),  # not those of an activation checkpoint around us
        torch.enable_grad(),
        torch.autocast(x.device.type, enabled=False),
    ):
        x = x.detach().clone().requires_grad_()
        weight = weight.detach().clone().requires_grad_()

        def step(name: str) -> Callable[[], object]:
            product = Product(plan, backends.get(name), geometry)

            def run() -> object:
                y = product(x, weight)
                return torch.autograd.grad(y, (x, weight), torch.ones_like(y))

            return run

        def seconds(run: Callable[[], object]) -> float:
            wait()
            start = time.perf_counter()
            run()
            wait()
            return time.perf_counter() - start

        runs = {name: step(name) for name in names}
        warm: dict[str, float] = {}
        for name, run in runs.items():
            run()  # the first makes tables, compiles and tunes
            warm[name] = min(seconds(run), seconds(run))
        best = min(warm.values())
        close = {n: r for n, r in runs.items() if warm[n] <= _HOPELESS * best or n == favourite}
        timed = time_turns(close, _TURNS, seconds=_SECONDS_ENOUGH, wait=wait)
        return {name: timed.get(name, [warm[name]]) for name in names}


def _same(tensor: Tensor) -> Tensor:
    return tensor
