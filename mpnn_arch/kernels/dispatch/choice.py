"""Automatic selection of a round's backend: a short timed trial, cached.

A trial times forward and backward of every available backend on the given tensors, in interleaved
turns, and selects the lowest lower quartile, which is robust to other load on the machine. A
backend that beats the static rule's must do so in a second trial. The result is cached in the
process and on disk, for the same plan, shape, dtype, device and number of threads. Trials are noisy
and backends round differently, so a layer caches its selection and a checkpoint stores those of its
layers: a resumed run is bit-identical.

On the complete graph the plain dense layer is timed against other dense products, and replaced only
by one that is clearly faster. A product too small to matter is not timed there.

No trial is run where it would be unreliable or not reproducible: under tracing, CUDA graph capture
and ``torch.use_deterministic_algorithms(True)``. There :func:`static_rule` selects, by a model of
each backend's time (:mod:`mpnn_arch.kernels.dispatch.roofline`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import platform
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mpnn_arch
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.backends import candidates, complete_candidates
from mpnn_arch.kernels.dispatch.choice_cache import Choice, forget, key_of, recall, remember
from mpnn_arch.kernels.dispatch.machines import machine_for, tf32_allowed
from mpnn_arch.kernels.dispatch.roofline import (
    NOMINAL_BATCH,
    NOMINAL_PIXELS,
    Machine,
    RoundSizes,
    predicted,
)
from mpnn_arch.kernels.dispatch.tracing import in_functorch, is_traced
from mpnn_arch.kernels.dispatch.trial import time_backends
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan, find_plan
from mpnn_arch.kernels.product import in_use

__all__ = [
    "Choice",
    "choose",
    "cpu_name",
    "forget",
    "is_captured",
    "is_small",
    "may_time",
    "predicted_seconds",
    "runs_plain",
    "sample_bucket",
    "static_rule",
]

# On the complete graph: multiply-adds below which a product takes microseconds on any backend, and
# the share of the plain layer's time that another backend must stay below, because it rounds unlike
# torch. Other load on the machine moves a trial by more than a tenth; where torch's library is
# slow, another takes half its time.
_SMALL, _CLEARLY = 2**22, 0.75


def sample_bucket(num_samples: int) -> int:
    """``num_samples`` rounded up to a power of two; one choice covers a bucket."""
    return 1 << max(0, num_samples - 1).bit_length()


def static_rule(
    plan: RoundPlan,
    device: str,
    dtype: torch.dtype,
    geometry: ConvGeometry | None = None,
    *,
    captured: bool = False,
    samples: int = NOMINAL_BATCH,
    pixels: int = NOMINAL_PIXELS,
) -> str:
    """The backend where timing is not possible: the lowest time predicted by the roofline.

    On the complete graph, the plain dense layer. A program traced for any batch may not read its
    batch, and a smaller last batch should round as the others do: untimed choices are for 128
    samples, over maps of 16 x 16 pixels.

    Args:
        plan: of the round.
        device: a device type.
        dtype: of the tensors.
        geometry: of the convolution; None for vectors.
        captured: into a CUDA graph, so launches cost the host nothing.
        samples: where known, the batch's bucket.
        pixels: where known, the output pixels of a map.
    """
    if plan.is_complete:
        return backends.PLAIN
    kernel, stride = ((), ()) if geometry is None else (geometry.kernel_size, geometry.stride)
    numbers = (samples, pixels, math.prod(stride))
    return _rule(plan.key, str(plan.device), device, dtype, kernel, numbers, captured)


@torch.compiler.assume_constant_result  # called under tracing; backends are modules
def _rule(
    plan_key: str,
    plan_device: str,
    device: str,
    dtype: torch.dtype,
    kernel: tuple[int, ...],
    numbers: tuple[int, int, int],
    captured: bool,
) -> str:
    plan = find_plan(plan_key, torch.device(plan_device))
    if plan is None:  # made by the traced program itself: its sizes are unknown
        return backends.PLAIN
    taps = math.prod(kernel) if kernel else 0
    samples, pixels, stride = numbers
    sizes = RoundSizes.of(
        plan,
        dtype,
        tf32=device == "cuda" and tf32_allowed(taps > 0),
        samples=samples,
        taps=taps,
        in_pixels=pixels * stride,
        out_pixels=pixels,
    )
    machine = machine_for(torch.device(device))
    if captured:
        machine = dataclasses.replace(machine, launch=0.0)
    available = candidates(device, dtype, kernel)
    return min(available, key=lambda name: predicted_seconds(name, sizes, machine))


def predicted_seconds(name: str, sizes: RoundSizes, machine: Machine) -> float:
    """Seconds of a forward and backward pass on backend ``name``; infinite if it predicts none."""
    return _predicted(name, id(backends.get(name)), sizes, machine)


# Cached, as deterministic mode asks at every call; by identity, as a custom backend may not be
# hashable.
@lru_cache(maxsize=1024)
def _predicted(name: str, identity: int, sizes: RoundSizes, machine: Machine) -> float:
    step_kernels = getattr(backends.get(name), "step_kernels", None)
    if step_kernels is None:
        return math.inf
    return predicted(step_kernels(sizes, machine), machine, sizes.mode)


def choose(
    x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None = None
) -> Choice:
    """The backend for such an input, from the cache, a trial or the static rule.

    Args:
        x: (B, C_in) or (B, C_in, H, W), in the compute dtype.
        weight: (num_weights,) or (num_weights, K, K).
        plan: of the round.
        geometry: of the convolution; None for vectors.
    """
    if not may_time(x, weight):
        how = "complete" if plan.is_complete else "rule"
        rule = static_rule(plan, x.device.type, x.dtype, geometry, captured=is_captured(x))
        return Choice(rule, how)
    if runs_plain(x, weight, plan):
        return Choice(backends.PLAIN, "complete")
    described = _describe(x, weight, plan, geometry)
    key = key_of(described)
    known = recall(key)
    if known is None or known.backend not in _candidates(plan, x, weight):
        known = _trial(x, weight, plan, geometry)
        described = _describe(x, weight, plan, geometry)  # without a backend that failed
        remember(key_of(described), known, described)
    else:
        remember(key, known)
    return known


def is_small(multiply_adds: int) -> bool:
    """Whether a dense product of so many multiply-adds is not worth timing."""
    return multiply_adds < _SMALL


def runs_plain(x: Tensor, weight: Tensor, plan: RoundPlan) -> bool:
    """Whether the round is a plain dense layer for which no other product is worth timing."""
    if not plan.is_complete:
        return False
    multiply_adds = x.shape[0] * weight.numel() * math.prod(x.shape[2:])
    return is_small(multiply_adds) or len(_candidates(plan, x, weight)) == 1


def _candidates(plan: RoundPlan, x: Tensor, weight: Tensor) -> list[str]:
    find = complete_candidates if plan.is_complete else candidates
    return find(x.device.type, x.dtype, weight.shape[1:])


def may_time(*tensors: Tensor) -> bool:
    """Whether a timed trial may run now, on these tensors."""
    if is_traced(*tensors) or torch.are_deterministic_algorithms_enabled():
        return False
    x = tensors[0]
    if in_functorch() or not x.numel():
        return False
    return not is_captured(x)


def is_captured(x: Tensor) -> bool:
    """Whether what is launched for ``x`` goes into a CUDA graph."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _trial(x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None) -> Choice:
    available = _candidates(plan, x, weight)
    rule = static_rule(
        plan,
        x.device.type,
        x.dtype,
        geometry,
        samples=sample_bucket(x.shape[0]),
        pixels=_output_pixels(x, geometry),
    )
    used = in_use(plan)
    before = set(used)
    timed = time_backends(x, weight, plan, available, geometry, favourite=rule)
    selected = _fastest(timed, rule, plan)
    if selected != rule and rule in timed:
        again = time_backends(x, weight, plan, [selected, rule], geometry, favourite=rule)
        selected = _fastest(again, rule, plan)
        timed |= again
    seconds = {backend: _lower_quartile(times) for backend, times in timed.items()}
    spread = {b: (max(t) - min(t)) / 2 / seconds[b] for b, t in timed.items()}
    # Index tables are larger than the weights: drop those that were built for the trial alone.
    for backend in map(backends.get, available):
        if backend is not backends.get(selected) and id(backend) not in before:
            backend.release(plan)
            used.discard(id(backend))
    return Choice(selected, "trial", seconds, spread)


def _output_pixels(x: Tensor, geometry: ConvGeometry | None) -> int:
    return 1 if geometry is None else math.prod(geometry.output_size(x.shape[2:]))


def _fastest(timed: dict[str, list[float]], rule: str, plan: RoundPlan) -> str:
    fastest = min(timed, key=lambda backend: _lower_quartile(timed[backend]))
    if plan.is_complete and rule in timed:
        most = _CLEARLY * _lower_quartile(timed[rule])
        return fastest if _lower_quartile(timed[fastest]) <= most else rule
    return fastest


def _lower_quartile(times: list[float]) -> float:
    return sorted(times)[len(times) // 4]


def _describe(
    x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None
) -> dict[str, Any]:
    """Everything that a trial's result depends on."""
    return {
        "plan": plan.key,
        "samples": sample_bucket(x.shape[0]),
        "space": list(x.shape[2:]),
        "kernel": list(weight.shape[1:]),
        "geometry": [list(pair) for pair in geometry[1:]] if geometry else [],
        "dtype": str(x.dtype),
        "device": torch.cuda.get_device_name(x.device) if x.is_cuda else cpu_name(),
        # In virtual machines, processors of several generations can have one name.
        "instructions": "" if x.is_cuda else torch.backends.cpu.get_cpu_capability(),
        "float32": _float32_mode() if x.is_cuda else "",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "version": mpnn_arch.__version__,
        "kernels": kernels_version(),
        "candidates": _candidates(plan, x, weight),
    }


def _float32_mode() -> str:
    """Whether float32 products may use TF32; torch's older switch raises once the newer is set."""
    switches = torch.backends.cuda.matmul
    return str(getattr(switches, "fp32_precision", None) or switches.allow_tf32)


@cache
def kernels_version() -> str:
    """A digest of the kernels' sources and of which are prebuilt: others have other timings."""
    folder = Path(__file__).parent.parent
    digest = hashlib.sha256(os.environ.get("MPNN_ARCH_KERNELS", "").encode())
    for path in sorted(
        [*folder.glob("*.py"), *folder.glob("native/*.cpp"), *folder.glob("native/*.h")]
    ):
        digest.update(path.read_bytes())
    for path in sorted(folder.glob("native/prebuilt/*")):  # made of these sources
        digest.update(path.name.encode())
    return digest.hexdigest()[:16]


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
