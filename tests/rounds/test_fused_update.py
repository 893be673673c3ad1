"""The update of a fused round as one operation: the numbers of its parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch import FusedRound, MessageRound, graphs
from mpnn_arch.kernels import cpu
from mpnn_arch.rounds import fused_update

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason="no C++ compiler")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for every update that ran as one operation."""
    made: list[bool] = []

    def counted(*arguments: Any) -> Any:
        made.append(True)
        return real(*arguments)

    real = fused_update.normalise
    monkeypatch.setattr(fused_update, "normalise", counted)
    return made


def round_of(kind: type = FusedRound, **options: Any) -> Any:
    options = {"norm": "batch", "activation": "relu", "residual": True, **options}
    if kind is FusedRound:
        options = {"backend": "cpu", **options}
    return kind(
        graphs.ring(4, 2),
        6,
        6,
        message="conv",
        message_kwargs={"kernel_size": 3, "padding": 1},
        generator=torch.Generator().manual_seed(0),
        **options,
    )


def maps(batch: int = 3) -> Tensor:
    return torch.randn(batch, 6, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(6),
        nn.BatchNorm2d(6, momentum=None),
        nn.BatchNorm2d(6, momentum=0.3, eps=0.1),
        nn.BatchNorm2d(6, affine=False),
        nn.BatchNorm2d(6, track_running_stats=False),
    ],
)
@pytest.mark.parametrize("activation", ["relu", None, F.relu, torch.relu, nn.ReLU(inplace=True)])
@pytest.mark.parametrize("residual", [True, False])
def test_training_is_that_of_the_literal_round(
    calls: list[bool], norm: nn.Module, activation: Any, residual: bool
) -> None:
    options = {"activation": activation, "residual": residual}
    fused = round_of(norm=copy.deepcopy(norm), **options).double()
    plain = round_of(MessageRound, norm=copy.deepcopy(norm), **options).double()
    plain.load_state_dict(fused.state_dict())
    for step in range(3):
        x = maps().double() + step
        results = []
        for layer in (fused, plain):
            layer.zero_grad()
            y = layer(x)
            y.square().sum().backward()
            results.append([y, *(p.grad for p in layer.parameters())])
        for first, second in zip(*results, strict=True):
            torch.testing.assert_close(first, second)
        for first, second in zip(fused.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(first, second)
    assert len(calls) == 3
    torch.testing.assert_close(fused.eval()(maps().double()), plain.eval()(maps().double()))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(900), nn.BatchNorm1d(900, affine=False)])
@pytest.mark.parametrize("residual", [True, False])
def test_training_over_vectors_is_that_of_the_literal_round(
    calls: list[bool], norm: nn.Module, residual: bool
) -> None:
    options = {"activation": "relu", "residual": residual, "graph": graphs.ring(7, 2)}
    options |= {"in_channels": 900, "out_channels": 900}
    layers = []
    for kind in (FusedRound, MessageRound):
        generator = torch.Generator().manual_seed(0)
        layers.append(kind(norm=copy.deepcopy(norm), generator=generator, **options).double())
    layers[0].backend = "cpu"
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        x = torch.randn(600, 900, generator=generator, dtype=torch.float64)
        results = []
        for layer in layers:
            layer.zero_grad()
            y = layer(x)
            y.square().sum().backward()
            results.append([y, *(p.grad for p in layer.parameters()), *layer.buffers()])
        for first, second in zip(*results, strict=True):
            torch.testing.assert_close(first, second)
    assert len(calls) == 2
    layers[0](x[:500])  # too few numbers to be worth it
    layers[0].eval()(x)
    assert len(calls) == 2


def hooked(layer: Any) -> Any:
    layer.norm.register_forward_hook(lambda module, given, out: 2 * out)
    return layer


def hooked_activation(layer: Any) -> Any:
    layer.activation.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    return layer


def replaced(layer: Any) -> Any:
    forward = layer.norm.forward
    layer.norm.forward = lambda x: 3 * forward(x)
    return layer


def subclassed(layer: Any) -> Any:
    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    layer.norm = Doubled(6)
    return layer


@pytest.mark.parametrize("change", [hooked, hooked_activation, replaced, subclassed])
def test_parts_that_were_changed_are_called(
    calls: list[bool], change: Callable[[Any], Any]
) -> None:
    fused, plain = change(round_of()), change(round_of(MessageRound))
    torch.testing.assert_close(fused(maps()), plain(maps()), rtol=1e-4, atol=1e-4)
    assert not calls


def test_hooks_on_all_modules_are_called(calls: list[bool]) -> None:
    seen: list[type] = []
    hook = nn.modules.module.register_module_forward_hook(lambda m, i, o: seen.append(type(m)))
    try:
        round_of()(maps())
    finally:
        hook.remove()
    assert nn.BatchNorm2d in seen
    assert not calls


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "masked"},
        {"squeeze_excitation": 2},
        {"norm": "group"},
        {"activation": "silu"},
        {"activation": nn.ReLU6()},
    ],
)
def test_other_rounds_call_their_parts(calls: list[bool], options: dict[str, Any]) -> None:
    round_of(**options)(maps())
    assert not calls


def test_other_inputs_call_the_parts(calls: list[bool]) -> None:
    layer = round_of()
    expected = layer(maps())
    assert len(calls) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(maps())
    layer.bfloat16()(maps().bfloat16())
    layer.float().eval()(maps())
    layer.train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(maps(1)[:, :, :1, :1])
    assert len(calls) == 1
    fresh = round_of(norm=nn.BatchNorm2d(6, track_running_stats=False))  # torch: no writes in grad
    parameters = dict(fresh.named_parameters())
    calls.clear()
    by_func = torch.func.functional_call(fresh, parameters, (maps(),))
    torch.testing.assert_close(by_func, expected)
    grads = torch.func.grad(lambda p: torch.func.functional_call(fresh, p, (maps(),)).sum())
    assert set(grads(parameters)) == set(parameters)
    assert len(calls) == 1  # of functional_call alone


@pytest.mark.parametrize("residual", [False, True])
def test_autocast_in_bfloat16(calls: list[bool], residual: bool) -> None:
    """Maps in bfloat16; parameters, their gradients and the running statistics in float32."""
    results = []
    x = maps().bfloat16()
    for hooked in (False, True):
        layer = round_of(residual=residual)
        if hooked:
            layer.norm.register_forward_hook(lambda *_: None)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x)
        y.float().square().mean().backward()
        results.append([y, *(p.grad for p in layer.parameters()), layer.norm.running_var])
    assert len(calls) == 1
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype is theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_compiled_rounds_are_whole_graphs(calls: list[bool]) -> None:
    torch.compiler.reset()  # other tests may have reached torch's limit of compilations
    layer = round_of()
    expected = copy.deepcopy(layer)(maps())
    calls.clear()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps()), expected, rtol=1e-4, atol=1e-4)
    assert not calls


@pytest.mark.parametrize(("activation", "affine"), [("relu", True), (None, True), (None, False)])
def test_the_graph_of_gradients_saves_tensors_alone(activation: str | None, affine: bool) -> None:
    """torchviz asks all that is saved for its size."""
    layer = round_of(activation=activation, norm=nn.BatchNorm2d(6, affine=affine), residual=False)
    plain = round_of(activation=activation, norm=None, residual=False)
    left = [plain(layer(maps())).grad_fn]
    saved: list[Any] = []
    while left:
        node = left.pop()
        saved += getattr(node, "saved_tensors", ())
        left += [below for below, _ in node.next_functions if below is not None]
    assert saved
    assert all(isinstance(tensor, Tensor) for tensor in saved)
