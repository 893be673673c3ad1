"""A fused round that ends in a ReLU alone, which its product applies: the numbers of its parts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch import FusedRound, MessageRound, graphs
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.product import Product

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason="no C++ compiler")


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each product that ran returned its ReLU."""
    made: list[bool] = []
    real = Product.run

    def noted(self: Product, *arguments: Any) -> Tensor:
        made.append(len(arguments) > 3 and arguments[3])
        return real(self, *arguments)

    monkeypatch.setattr(Product, "run", noted)
    return made


def round_of(kind: type = FusedRound, **options: Any) -> Any:
    options = {"activation": "relu", **options}
    if kind is FusedRound:
        options = {"backend": "cpu", **options}
    generator = torch.Generator().manual_seed(0)
    return kind(graphs.star(7), 20, 23, generator=generator, **options).double()


def vectors(batch: int = 40, channels: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, generator=generator, dtype=torch.float64)


def step(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients with respect to x and all parameters."""
    x = x.clone().requires_grad_()
    y: Tensor = layer(x)
    grads = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()], allow_unused=True)
    return [y, *(g for g in grads if g is not None)]


@pytest.mark.parametrize("activation", ["relu", F.relu, torch.relu, nn.ReLU(inplace=True)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 40, 131])
def test_values_and_gradients_are_those_of_the_literal_round(
    applied: list[bool], activation: Any, bias: bool, batch: int
) -> None:
    fused = round_of(activation=copy.deepcopy(activation), bias=bias)
    plain = round_of(MessageRound, activation=copy.deepcopy(activation), bias=bias)
    x = vectors(batch)
    first, second, expected = step(fused, x), step(fused, x), step(plain, x)
    assert applied == [False, True]  # the first call of a shape prepares its product
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for ours, theirs in zip(second, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        assert torch.equal(fused(x), first[0])


def test_frozen_parts_and_an_input_without_gradient(applied: list[bool]) -> None:
    x = vectors()
    for frozen in ("weight", "bias", "all"):
        fused, plain = round_of(), round_of(MessageRound)
        for layer in (fused, plain):
            layer.message_function.weight.requires_grad_(frozen == "bias")
            layer.bias.requires_grad_(frozen == "weight")
        fused(x)
        for needs_x in (True, False):
            if frozen == "all" and not needs_x:
                continue
            results = []
            for layer in (fused, plain):
                given = x.clone().requires_grad_(needs_x)
                wanted = [t for t in (given, *layer.parameters()) if t.requires_grad]
                results.append(torch.autograd.grad(layer(given).square().sum(), wanted))
            for ours, theirs in zip(*results, strict=True):
                torch.testing.assert_close(ours, theirs)
    assert any(applied)


def test_gradients_of_gradients_and_batched_ones(applied: list[bool]) -> None:
    layer = round_of()
    x = vectors(5).requires_grad_()
    layer(x)
    weight, bias = layer.message_function.weight, layer.bias
    run = lambda x, weight, bias: layer(x)  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, weight, bias), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x, weight, bias))
    assert any(applied)


def test_a_changed_result_is_an_error_as_of_torchs_relu(applied: list[bool]) -> None:
    layer = round_of()
    layer(vectors())
    y = layer(vectors())
    assert applied == [False, True]
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize(
    "options",
    [
        {"activation": None},
        {"activation": "silu"},
        {"activation": nn.LeakyReLU()},
        {"squeeze_excitation": 2},
        {"norm": "layer"},
        {"norm": "batch"},
        {"backend": "masked"},
        {"backend": "gather"},
        {"aggr": "mean"},
    ],
    ids=str,
)
def test_other_rounds_call_their_parts(applied: list[bool], options: dict[str, Any]) -> None:
    fused = round_of(**options)
    plain = round_of(MessageRound, **{k: v for k, v in options.items() if k != "backend"})
    for _ in range(2):
        torch.testing.assert_close(fused(vectors()), plain(vectors()))
    assert not any(applied)


def test_a_residual_is_added_before_the_activation(applied: list[bool]) -> None:
    layer, plain = round_of(), round_of(MessageRound)
    added = vectors(40, 23)
    for _ in range(2):
        torch.testing.assert_close(layer(vectors(), added), plain(vectors(), added))
    assert applied == [False, False]


def test_an_activation_that_was_hooked_or_replaced_is_called(applied: list[bool]) -> None:
    layer = round_of()
    expected = [layer(vectors()), layer(vectors())][1]
    handle = layer.activation.register_forward_hook(lambda module, given, out: 2 * out)
    torch.testing.assert_close(layer(vectors()), 2 * expected)
    handle.remove()
    layer.activation = nn.Tanh()
    assert layer(vectors()).min() < 0
    assert applied == [False, True, False, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(applied: list[bool], dtype: torch.dtype) -> None:
    layer = round_of().to(dtype)
    x = vectors().to(dtype)
    first, second = step(layer, x), step(layer, x)
    assert applied == [False, True]
    exact = step(round_of(MessageRound).to(dtype).double(), x.double())
    for ours, theirs in zip(second, exact, strict=True):
        assert ours.dtype is dtype
        scale = float(theirs.detach().abs().max())
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-2, atol=2e-2 * scale)
    assert torch.equal(first[0], second[0])
