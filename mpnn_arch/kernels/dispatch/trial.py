"""Timing the backends on the given tensors."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.dispatch.tracing import untraced
from mpnn_arch.kernels.dispatch.turns import time_turns
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.product import Product

# Timed turns per backend; after this many seconds three turns suffice; a backend whose better
# warm-up run takes this many times the fastest's is dropped, a favourite from ten times on.
_TURNS, _TIME_BUDGET, _TOO_SLOW, _HOPELESS = 9, 0.25, 2.0, 10.0


def time_backends(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    names: list[str],
    geometry: ConvGeometry | None = None,
    favourite: str | None = None,
) -> dict[str, list[float]]:
    """Seconds of forward and backward per backend and turn, after three warm-up runs.

    ``favourite`` is dropped only where it is hopeless, as its warm-up may have coincided with other
    load; a dropped backend has the time of its better warm-up run. A backend that fails has no
    times, and unless it lacked memory it is left out from then on. Works on copies of the tensors,
    leaves no gradients and draws no random numbers.

    Raises:
        Exception: what the first backend raised, if every backend fails.
    """

    def wait() -> None:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        elif x.device.type == "mps":
            torch.mps.synchronize()

    with (
        untraced(),
        saved_tensors_hooks(_identity, _identity),  # not those of an enclosing checkpoint
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
        failures: dict[str, Exception] = {}
        for name, run in runs.items():
            try:
                run()  # the first run builds tables, compiles and tunes
                warm[name] = min(seconds(run), seconds(run))
            except Exception as error:  # of memory, of a compiler, of a device
                failures[name] = error.with_traceback(None)  # whose frames hold tensors
        if not warm:
            raise next(iter(failures.values()))
        for name, failure in failures.items():
            if not _is_of_size(failure):
                backends.leave_out(name, x.device.type, x.dtype, failure)
        best = min(warm.values())
        limit = {favourite: _HOPELESS}
        close = {n: runs[n] for n in warm if warm[n] <= limit.get(n, _TOO_SLOW) * best}
        timed = time_turns(close, _TURNS, seconds=_TIME_BUDGET, wait=wait)
        return {name: timed.get(name, [warm[name]]) for name in warm}


def _is_of_size(error: Exception) -> bool:
    """Whether a smaller round may run: tables, a matrix or results did not fit into memory."""
    known = isinstance(error, (InputError, MemoryError, torch.OutOfMemoryError))
    return known or "can't allocate memory" in str(error)  # torch's for the CPU


def _identity(tensor: Tensor) -> Tensor:
    return tensor
