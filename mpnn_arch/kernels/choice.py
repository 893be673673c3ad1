"""Which backend a round runs on, where it is left to us: a short timed trial, remembered.

A trial times forward and backward of every backend that can run, on the tensors at hand, turn by
turn, and takes the quickest lower quartile: what is left where others use the machine too. One
that beats the rule's backend must do so again. The answer is kept in the process and on disk, for
the same plan, shape, dtype, device and number of threads. Trials are noisy and backends round
differently, so a layer keeps what was chosen for it, and a checkpoint keeps what its layers chose:
the same run gives the same bits.

No trial is run where it could not be trusted or repeated: while a program is traced or a CUDA
graph captured, and under ``torch.use_deterministic_algorithms(True)``. Then :func:`static_rule`
answers.

The disk cache is one JSON file a trial under ``$MPNN_ARCH_CACHE``, else
``$XDG_CACHE_HOME/mpnn_arch``, else ``~/.cache/mpnn_arch``; a directory that cannot be written costs
nothing but the memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mpnn_arch
from mpnn_arch.io.files import write_text
from mpnn_arch.kernels import gather
from mpnn_arch.kernels.backends import BACKENDS, candidates
from mpnn_arch.kernels.ops import Window
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.tracing import in_functorch, is_traced
from mpnn_arch.kernels.trial import time_backends

# From this block density up a GPU's dense product with zeros is taken untimed. On a CPU the
# kernel along the edges was as quick or quicker up to 0.96, the densest published graph.
DENSE_FROM = 0.8


@dataclass(frozen=True)
class Choice:
    """What was picked, how, and what each candidate took.

    Attributes:
        backend: the one to run.
        how: ``"trial"``, ``"disk"`` (an earlier trial), ``"rule"``, ``"stored"`` (came with a
            checkpoint) or ``"complete"`` (every backend is the plain dense layer).
        seconds: lower quartile of forward and backward, a candidate each; empty where none was
            timed.
        spread: half the range of those timings over their lower quartile.
    """

    backend: str
    how: str
    seconds: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        told = {
            "trial": "timed in this process",
            "disk": "timed earlier on this machine",
            "rule": "by rule, nothing was timed",
            "stored": "stored with the weights",
            "complete": "the graph is complete: plain dense",
        }[self.how]
        times = ", ".join(
            f"{name} {seconds * 1e3:.3g} ms"
            for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1])
        )
        return f"{self.backend} ({told}{': ' + times if times else ''})"


_KNOWN: dict[str, Choice] = {}


def sample_bucket(num_samples: int) -> int:
    """The power of two that ``num_samples`` is rounded up to; a choice holds for all below it."""
    return 1 << max(0, num_samples - 1).bit_length()


def static_rule(plan: RoundPlan, device: str, dtype: torch.dtype) -> str:
    """The backend where nothing can be timed.

    ``"cpu"`` where its kernels run, ``"triton"`` below a block density of ``DENSE_FROM``, else
    ``"masked"``, which mostly outran ``"gather"``.
    """
    able = candidates(device, dtype)
    if "cpu" in able:
        return "cpu"
    return "triton" if "triton" in able and plan.block_density < DENSE_FROM else "masked"


def choose(x: Tensor, weight: Tensor, plan: RoundPlan, window: Window | None = None) -> Choice:
    """The backend for such an input, by memory, disk, trial or rule.

    Args:
        x: (B, C_in) or (B, C_in, H, W), in the dtype that is computed with.
        weight: (num_weights,) or (num_weights, K, K).
        plan: of the round.
        window: how the kernels move; None for vectors.
    """
    if plan.is_complete:
        return Choice("masked", "complete")
    if not may_time(x, weight):
        return Choice(static_rule(plan, x.device.type, x.dtype), "rule")
    described = _describe(x, weight, plan, window)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
    made = _KNOWN.get(key) or _read(key)
    if made is None or made.backend not in candidates(x.device.type, x.dtype):
        made = _trial(x, weight, plan, window)
        _write(key, described, made)
    _KNOWN[key] = made
    return made


def may_time(*tensors: Tensor) -> bool:
    """Whether a timed trial may run now, on these tensors."""
    if is_traced(*tensors) or torch.are_deterministic_algorithms_enabled():
        return False
    x = tensors[0]
    if in_functorch() or not x.numel():
        return False
    return not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def forget() -> None:
    """Forget the choices of this process; those on disk stay."""
    _KNOWN.clear()


# -- disk -----------------------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where trials are remembered."""
    own = os.environ.get("MPNN_ARCH_CACHE")
    if own:
        return Path(own) / "choices"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mpnn_arch/choices"


def _trial(x: Tensor, weight: Tensor, plan: RoundPlan, window: Window | None) -> Choice:
    able = candidates(x.device.type, x.dtype)
    if max(weight.shape[1:], default=1) > 1:
        # It convolves node by node: 10 times slower wherever it was timed, and slow to be timed.
        able.remove("gather")
    rule = static_rule(plan, x.device.type, x.dtype)
    timed = time_backends(x, weight, plan, able, window, favourite=rule)
    picked = _quickest(timed)
    if picked != rule:
        again = time_backends(x, weight, plan, [picked, rule], window, favourite=rule)
        picked = _quickest(again)
        timed |= again
    seconds = {backend: _lower_quartile(times) for backend, times in timed.items()}
    spread = {b: (max(t) - min(t)) / 2 / seconds[b] for b, t in timed.items()}
    # The losers' index tables are larger than the weights; they would only lie about.
    if picked != "masked":
        plan.release_dense_index()
    if picked != "gather":
        gather.release(plan)
    return Choice(picked, "trial", seconds, spread)


def _quickest(timed: dict[str, list[float]]) -> str:
    return min(timed, key=lambda backend: _lower_quartile(timed[backend]))


def _lower_quartile(times: list[float]) -> float:
    return sorted(times)[len(times) // 4]


def _describe(x: Tensor, weight: Tensor, plan: RoundPlan, window: Window | None) -> dict[str, Any]:
    """Everything that a trial's answer depends on."""
    return {
        "plan": plan.key,
        "samples": sample_bucket(x.shape[0]),
        "space": list(x.shape[2:]),
        "kernel": list(weight.shape[1:]),
        "window": [list(pair) for pair in window] if window else [],
        "dtype": str(x.dtype),
        "device": torch.cuda.get_device_name(x.device) if x.is_cuda else cpu_name(),
        "float32": torch.get_float32_matmul_precision() if x.is_cuda else "",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "version": mpnn_arch.__version__,
        "candidates": candidates(x.device.type, x.dtype),
    }


@cache
def cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _read(key: str) -> Choice | None:
    try:
        made = json.loads((cache_directory() / f"{key}.json").read_text())["choice"]
        seconds, spread = dict(made["seconds"]), dict(made["spread"])
        if made["backend"] not in BACKENDS:
            return None
        return Choice(made["backend"], "disk", seconds, spread)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(key: str, described: dict[str, Any], made: Choice) -> None:
    text = json.dumps({"trial": described, "choice": asdict(made)}, indent=1)
    directory = cache_directory()
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        write_text(directory / f"{key}.json", text)
