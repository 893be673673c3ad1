"""The backend of one layer: asked for by name, or chosen per shape and kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.backends import BACKENDS, unavailable_reason, warn_once
from mpnn_arch.kernels.choice import Choice, choose, may_time, sample_bucket, static_rule
from mpnn_arch.kernels.ops import Window
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.tracing import is_plain


class Picker:
    """Tells a layer's backend for an input, and keeps what it told.

    A kept choice holds for a dtype, a device type, a batch rounded up to a power of two and the
    size of the maps. Threads and machine are left out: a run that goes on elsewhere keeps its bits.

    Args:
        backend: ``"auto"``, or the backend that always runs; where that one cannot run on an
            input, the rule's choice steps in and one warning says so.

    Raises:
        InputError: no such backend.
    """

    def __init__(self, backend: str = "auto") -> None:
        if backend not in ("auto", *BACKENDS):
            raise InputError(
                f"there is no backend {backend!r}; choose one of auto, {', '.join(BACKENDS)}"
            )
        self.backend = backend
        self.kept: dict[str, Choice] = {}
        # The same by shape, dtype and device, which are looked up sooner than a key is spelt.
        self._ran: dict[tuple[torch.Size, torch.dtype, torch.device], str] = {}
        # What was picked last for a dtype and device, for programs being traced.
        self._last: dict[tuple[torch.dtype, str], str] = {}

    def __call__(self, x: Tensor, weight: Tensor, plan: RoundPlan, window: Window | None) -> str:
        """The backend for this input, in the dtype that is computed with."""
        if plan.is_complete:
            return "masked"
        if self.backend != "auto":
            picked = self._able(self.backend, x, plan)
        else:
            kind = (x.dtype, x.device.type)
            if not may_time(x, weight):
                # A shape asked for here would tie a traced program to one batch size.
                return self._last.get(kind) or static_rule(plan, x.device.type, x.dtype)
            key = _key(x)
            choice = self.kept.get(key)
            if choice is None:
                choice = self.kept[key] = choose(x, weight, plan, window)
            picked = self._last[kind] = self._able(choice.backend, x, plan)
        if is_plain(x, weight):
            self._ran[x.shape, x.dtype, x.device] = picked
        return picked

    def known(self, x: Tensor) -> str | None:
        """What it told for such an input before; x must be plain numbers in memory."""
        return self._ran.get((x.shape, x.dtype, x.device))

    @property
    def choices(self) -> dict[str, str]:
        """Shape to backend, JSON-able; assign them to another layer and it picks the same."""
        return {key: choice.backend for key, choice in self.kept.items()}

    @choices.setter
    def choices(self, choices: Mapping[str, str]) -> None:
        self.kept, self._last, self._ran = {}, {}, {}
        for key, backend in choices.items():
            dtype, device, *_ = key.split()
            kind = getattr(torch, dtype, None)
            if backend not in BACKENDS or not isinstance(kind, torch.dtype):
                raise InputError(
                    f"the stored choice {key!r}: {backend!r} is none of this version; leave it "
                    "out, and the layer picks anew"
                )
            self.kept[key] = Choice(backend, "stored")
            self._last[kind, device] = backend

    def explain(self, plan: RoundPlan) -> str:
        """What runs and why: each candidate's time where they were timed."""
        if plan.is_complete:
            return f"{self.backend}: the graph is complete, every backend is the plain dense layer"
        if self.backend != "auto":
            return f"{self.backend}: asked for"
        if not self.kept:
            return (
                f"auto: nothing picked yet, the first batch will be timed; untimed it is "
                f"{static_rule(plan, plan.device.type, torch.float32)} "
                f"(block density {plan.block_density:.2f})"
            )
        return "\n".join(f"auto, {key}: {choice}" for key, choice in self.kept.items())

    def _able(self, backend: str, x: Tensor, plan: RoundPlan) -> str:
        if backend in ("masked", "gather") or x.is_meta:
            return backend
        reason = unavailable_reason(backend, x.device.type, x.dtype)
        if not reason:
            return backend
        instead = static_rule(plan, x.device.type, x.dtype)
        warn_once(f"{reason}; its rounds run on {instead!r} instead")
        return instead


def _key(x: Tensor) -> str:
    """``"float32 cpu 128"``, then the size of the maps."""
    dtype = str(x.dtype).removeprefix("torch.")
    return " ".join(map(str, (dtype, x.device.type, sample_bucket(x.shape[0]), *x.shape[2:])))
