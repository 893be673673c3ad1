"""The backend of one layer: given by name, or selected per shape and cached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.backends import check_name, unavailable_reason, warn_once
from mpnn_arch.kernels.dispatch.choice import (
    choose,
    is_captured,
    may_time,
    runs_plain,
    sample_bucket,
    static_rule,
)
from mpnn_arch.kernels.dispatch.choice_cache import Choice
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.product import Product

# dtype, device type, samples rounded up to a power of two, size of the maps
Key = tuple[Any, ...]

_MOST_PRODUCTS = 256  # per layer, as its batches may all differ in size


class Picker:
    """Selects a layer's backend for an input, and caches the choice.

    A choice applies to a dtype, a device type, a batch size rounded up to a power of two and the
    size of the maps. Threads and machine are left out: a run resumed elsewhere stays bit-identical.

    Args:
        backend: ``"auto"``, or a fixed backend; where that one does not support an input, the
            static rule's choice is used instead, with one warning.

    Attributes:
        products: cache of the prepared products by shape, dtype and device, so that a repeated
            call needs no selection and no checks.

    Raises:
        InputError: no such backend.
    """

    def __init__(self, backend: str = "auto") -> None:
        check_name(backend, "auto")
        self.backend = backend
        self._choices: dict[Key, Choice] = {}
        # Of each dtype and device the first choice, "float32 cpu" to a backend, for programs being
        # compiled: one serves all layers on a plan that agree in it, and for other batches too.
        self._first: dict[str, str] = {}
        self.products: dict[tuple[torch.Size, torch.dtype, torch.device], Product] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy of its own, which prepares its own products.
        own = {"_choices": self._choices.copy(), "_first": self._first.copy(), "products": {}}
        return self.__dict__ | own

    def __call__(
        self, x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None
    ) -> str:
        """The backend for this input, given in the compute dtype."""
        if self.backend != "auto":
            if plan.is_complete:
                return backends.PLAIN
            return self._supported(self.backend, x, plan, geometry)
        # Reading the shape would specialise a traced program to one batch size.
        compiling = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
        if compiling or isinstance(x.shape[0], torch.SymInt):  # of `make_fx`
            if plan.is_complete:
                return backends.PLAIN
            return self._any_choice(x, plan, geometry)
        choice = self._choices.get(_key(x))
        if choice is None:
            if runs_plain(x, weight, plan):
                return backends.PLAIN
            if not may_time(x, weight):
                return self._any_choice(x, plan, geometry, captured=is_captured(x))
            choice = self._choices[_key(x)] = choose(x, weight, plan, geometry)
            self._first.setdefault(_kind(x.dtype, x.device.type), choice.backend)
        return self._supported(choice.backend, x, plan, geometry)

    def prepare(
        self, x: Tensor, weight: Tensor, plan: RoundPlan, geometry: ConvGeometry | None
    ) -> Product:
        """The product for eager, untransformed tensors of this shape, cached in ``products``."""
        product = Product(plan, backends.get(self(x, weight, plan, geometry)), geometry)
        fixed = self.backend != "auto" or runs_plain(x, weight, plan)
        if fixed or _key(x) in self._choices:
            if len(self.products) >= _MOST_PRODUCTS:
                self.products.clear()
            self.products[x.shape, x.dtype, x.device] = product
        return product

    @property
    def choices(self) -> dict[str, str]:
        """Shape to backend, JSON-serialisable; assigned to another layer, it selects the same."""
        # A copy, as elsewhere: another thread may call the layer, whose choices grow meanwhile.
        return {_format(key): choice.backend for key, choice in self._choices.copy().items()}

    @choices.setter
    def choices(self, choices: Mapping[str, str]) -> None:
        if not isinstance(choices, Mapping):
            raise InputError(
                f"backend choices are a dictionary of shapes to backends, not {shown(choices)}"
            )
        read = {_parse(key, backend): backend for key, backend in choices.items()}
        self._choices = {key: Choice(backend, "stored") for key, backend in read.items()}
        self._first = {}
        for (dtype, device, *_), backend in read.items():
            self._first.setdefault(_kind(dtype, device), backend)
        self.products = {}

    def explain(self, plan: RoundPlan, geometry: ConvGeometry | None = None) -> str:
        """The selected backend and why, with the candidates' times where they were timed."""
        if plan.is_complete and not self._choices:
            return f"{self.backend}: the graph is complete, this is the plain dense layer"
        if self.backend != "auto":
            return f"{self.backend}: requested"
        if not self._choices:
            return (
                f"auto: nothing selected yet, the first batch will be timed; without timing it is "
                f"{static_rule(plan, plan.device.type, torch.float32, geometry)} "
                f"(block density {plan.block_density:.2f})"
            )
        choices = self._choices.copy().items()
        return "\n".join(f"auto, {_format(key)}: {choice}" for key, choice in choices)

    def _any_choice(
        self,
        x: Tensor,
        plan: RoundPlan,
        geometry: ConvGeometry | None,
        *,
        captured: bool = False,
    ) -> str:
        """The first choice for this dtype and device, else the static rule's."""
        first = self._first.get(_kind(x.dtype, x.device.type))
        if first is not None:
            return first
        return static_rule(plan, x.device.type, x.dtype, geometry, captured=captured)

    def _supported(
        self, name: str, x: Tensor, plan: RoundPlan, geometry: ConvGeometry | None
    ) -> str:
        reason = "" if x.is_meta else unavailable_reason(name, x.device.type, x.dtype)
        if not reason:
            return name
        instead = static_rule(plan, x.device.type, x.dtype, geometry)
        warn_once(f"{reason}; its rounds run on {instead!r} instead")
        return instead


def _kind(dtype: torch.dtype, device: str) -> str:
    return f"{dtype} {device}"


def _key(x: Tensor) -> Key:
    return (x.dtype, x.device.type, sample_bucket(x.shape[0]), *x.shape[2:])


def _format(key: Key) -> str:
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
            f"the stored choice {key!r}: {backend!r} is unknown to this version; remove "
            "it, and the layer selects again"
        )
    return (dtype, parts[1], *map(int, numbers))
