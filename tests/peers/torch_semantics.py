"""What the suites of ``nn.Linear`` and ``nn.Conv2d`` share: pairs of layers, a table of cases.

A case is a function of a kind of layer and a generator. It puts our layer on the complete graph in
place of torch's, with its weights, and fails where the two differ; on a sparse graph it compares
with torch's functions on the round's matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.rounds.fused_round import FusedRound

COMPLETE = graphs.parse_one("complete:8")
SPARSE = graphs.parse_one("ws_flex:8,4,0.2,0")
OTHER = graphs.parse_one("ring:8,2")
IN, OUT = 16, 24


@dataclass(frozen=True)
class Kind:
    """One of torch's layers and ours in its place, of 16 -> 24 channels."""

    name: str
    shape: tuple[int, ...]
    theirs: Callable[..., Any]
    build: Callable[..., Any]

    def ours(self, graph: Any = COMPLETE, **kwargs: Any) -> FusedRound:
        return self.build(graph, **kwargs)

    def x(self, g: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(self.shape, generator=g).to(dtype)

    def pair(self, g: torch.Generator, **kwargs: Any) -> tuple[FusedRound, Any]:
        """Ours and torch's, with the same weights."""
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**31, (), generator=g)))
            theirs = self.theirs(**kwargs)
            ours = self.ours(**kwargs)
        ours.load_state_dict(theirs.state_dict())
        return ours, theirs

    def dense(self, layer: Any, x: Tensor) -> Tensor:
        """What torch's function gives with the round's matrix."""
        weight = layer.dense_weight()
        if weight.dim() == 2:
            return F.linear(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation)


LINEAR = Kind(
    "Linear",
    (5, IN),
    lambda **kw: nn.Linear(IN, OUT, **kw),
    lambda graph, **kw: RelationalLinear(graph, IN, OUT, **kw),
)
CONV = Kind(
    "Conv2d",
    (2, IN, 7, 6),
    lambda **kw: nn.Conv2d(IN, OUT, 3, **kw),
    lambda graph, **kw: RelationalConv2d(graph, IN, OUT, 3, **kw),
)

Case = Callable[[Kind, torch.Generator], None]


@dataclass
class Table:
    """Cases by name, and those that do not apply with the reason."""

    kind: Kind
    cases: dict[str, Case] = field(default_factory=dict)
    not_applicable: dict[str, str] = field(default_factory=dict)

    def case(self, name: str) -> Callable[[Case], Case]:
        def add(case: Case) -> Case:
            assert name not in self.cases
            self.cases[name] = case
            return case

        return add

    def fails(self, name: str) -> BaseException | None:
        """Why a case does not hold; None if it does. Runs once."""
        return _outcome(self.kind, self.cases[name])


@cache
def _outcome(kind: Kind, case: Case) -> BaseException | None:
    try:
        case(kind, torch.Generator().manual_seed(0))
    except Exception as error:
        return error
    return None


COMMON: dict[str, Case] = {}


def common(name: str) -> Callable[[Case], Case]:
    """A case of both layers."""

    def add(case: Case) -> Case:
        assert name not in COMMON
        COMMON[name] = case
        return case

    return add


def gradients(
    layer: Any, x: Tensor, call: Callable[[Tensor], Tensor] | None = None
) -> list[Tensor]:
    """The output and the gradients of x, the weights and the bias."""
    x = x.detach().clone().requires_grad_(x.is_floating_point())
    out = (layer if call is None else call)(x)
    layer.zero_grad()
    out.float().square().sum().backward()
    found = [out, x.grad, weight_of(layer).grad]
    if layer.bias is not None:
        found.append(layer.bias.grad)
    return found


def weight_of(layer: Any) -> Tensor:
    """The leaf that holds a layer's weights."""
    return layer.message_function.weight if isinstance(layer, FusedRound) else layer.weight


def same(ours: Any, theirs: Any, x: Tensor, **tolerance: float) -> None:
    """Outputs and all gradients agree."""
    for mine, other in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other.reshape(mine.shape), **tolerance)


def raises(kind: type[BaseException], call: Callable[[], Any], *words: str) -> None:
    """``call`` raises ``kind`` with a one-line message that contains ``words``."""
    try:
        call()
    except kind as error:
        said = str(error)
        assert all(word in said for word in words), said
        return
    raise AssertionError(f"no {kind.__name__}")
