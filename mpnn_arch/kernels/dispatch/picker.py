"""The backend of one layer: asked for by name, or selected per shape and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.backends import check_name, unavailable_reason, warn_once
from mpnn_arch.kernels.dispatch.choice import choose, may_time, sample_bucket, static_rule
from mpnn_arch.kernels.dispatch.memory import Choice
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.product import Product

# dtype, device type, samples rounded up to a power of two, size of the maps
Key = tuple[Any, ...]

_MOST_PRODUCTS = 256  # of one layer, whose batches may all differ in size


class Picker:
    """Selects a layer's backend for an input, and keeps the choice.

    A choice holds for a dtype, a device type, a batch rounded up to a power of two and the size of
    the maps. Threads and machine are left out: a run that goes on elsewhere keeps its bits.

    Args:
        backend: ``"auto"``, or the backend that always runs; where that one cannot run on an
            input, the rule's choice steps in and one warning says so.

    Attributes:
        products: the prepared product of every shape, dtype and device that ran, so that the next
            such call needs no choice and no check.

    Raises:
        InputError: no such backend.
    """

    def __init__(self, backend: str = "auto") -> None:
        check_name(backend, "auto")
        self.backend = backend
        self._choices: dict[Key, Choice] = {}
        self.products: dict[tuple[torch.Size, torch.dtype, torch.device], Product] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"products": {}}  # a copy prepares its own

    def __call__(
        self, x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None
    ) -> str:
        """The backend for this input, in the dtype that is computed with."""
        if plan.is_complete:
            return backends.PLAIN
        if self.backend != "auto":
            return self._able(self.backend, x, plan)
        if torch.compiler.is_compiling():
            # A shape asked for here would tie a traced program to one batch size.
            return self._any_choice(x, plan)
        choice = self._choices.get(_key(x))
        if choice is None:
            if not may_time(x, weight):
                return self._any_choice(x, plan)
            choice = self._choices[_key(x)] = choose(x, weight, plan, geometry)
        return self._able(choice.backend, x, plan)

    def prepare(
        self, x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None
    ) -> Product:
        """The product for eager, untransformed tensors of this shape, kept in ``products``."""
        product = Product(plan, backends.get(self(x, weight, plan, geometry)), geometry)
        if self.backend != "auto" or plan.is_complete or _key(x) in self._choices:
            if len(self.products) >= _MOST_PRODUCTS:
                self.products.clear()
            self.products[x.shape, x.dtype, x.device] = product
        return product

    @property
    def choices(self) -> dict[str, str]:
        """Shape to backend, JSON-able; assign them to another layer and it selects the same."""
        return {_spell(key): choice.backend for key, choice in self._choices.items()}

    @choices.setter
    def choices(self, choices: Mapping[str, str]) -> None:
        read = {_parse(key, backend): backend for key, backend in choices.items()}
        self._choices = {key: Choice(backend, "stored") for key, backend in read.items()}
        self.products = {}

    def explain(self, plan: RoundPlan) -> str:
        """What runs and why: each candidate's time where they were timed."""
        if plan.is_complete:
            return f"{self.backend}: the graph is complete, every backend is the plain dense layer"
        if self.backend != "auto":
            return f"{self.backend}: asked for"
        if not self._choices:
            return (
                f"auto: nothing selected yet, the first batch will be timed; untimed it is "
                f"{static_rule(plan, plan.device.type, torch.float32)} "
                f"(block density {plan.block_density:.2f})"
            )
        return "\n".join(f"auto, {_spell(key)}: {choice}" for key, choice in self._choices.items())

    def _any_choice(self, x: Tensor, plan: RoundPlan) -> str:
        """What was selected last for this dtype and device, else the rule's."""
        for key in reversed(self._choices):
            if key[0] == x.dtype and key[1] == x.device.type:
                return self._choices[key].backend
        return static_rule(plan, x.device.type, x.dtype)

    def _able(self, name: str, x: Tensor, plan: RoundPlan) -> str:
        reason = "" if x.is_meta else unavailable_reason(name, x.device.type, x.dtype)
        if not reason:
            return name
        instead = static_rule(plan, x.device.type, x.dtype)
        warn_once(f"{reason}; its rounds run on {instead!r} instead")
        return instead


def _key(x: Tensor) -> Key:
    return (x.dtype, x.device.type, sample_bucket(x.shape[0]), *x.shape[2:])


def _spell(key: Key) -> str:
    """``"float32 cpu 128"``, then the size of the maps."""
    dtype, *rest = key
    return " ".join(map(str, (str(dtype).removeprefix("torch."), *rest)))


def _parse(key: str, backend: str) -> Key:
    parts = key.split() if isinstance(key, str) else []
    dtype = getattr(torch, parts[0], None) if parts else None
    numbers = parts[2:]
    known = isinstance(backend, str) and backend in backends.names()
    if not (
        known
        and isinstance(dtype, torch.dtype)
        and len(numbers) in (1, 3)
        and all(number.isdecimal() and len(number) < 19 for number in numbers)
    ):
        raise InputError(
            f"the stored choice {key!r}: {backend!r} is none of this version; leave it "
            "out, and the layer selects anew"
        )
    return (dtype, parts[1], *map(int, numbers))
