"""The complete graph: the plain dense layer, or another dense product that is clearly faster."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.kernels import backends, cpu, masked, onednn
from mpnn_arch.kernels.dispatch import choice
from mpnn_arch.kernels.plan import make_plan
from mpnn_arch.rounds import export_choices, import_choices

COMPLETE = graphs.complete(4)
WIDTH, BATCH = 256, 64  # as many multiply-adds as are worth timing
KEY = f"float32 cpu {BATCH}"
needs_onednn = pytest.mark.skipif(
    bool(onednn.unavailable_reason()), reason=onednn.unavailable_reason()
)
needs_kernels = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())


def layer_of(backend: str = "auto", **kwargs: object) -> RelationalLinear:
    generator = torch.Generator().manual_seed(0)
    return RelationalLinear(
        COMPLETE, WIDTH, WIDTH, backend=backend, generator=generator, order="published", **kwargs
    )


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def plain(layer: RelationalLinear, x: Tensor) -> Tensor:
    return F.linear(x, layer.dense_weight(), layer.bias)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replaces the timing: masked takes 10 ms, others as in SECONDS; records the names timed."""
    recorded: list[list[str]] = []

    def time_backends(x, weight, plan, names, geometry=None, favourite=None):  # type: ignore[no-untyped-def]
        recorded.append(list(names))
        assert favourite == "masked"
        return {name: [SECONDS.get(name, 10e-3)] * 4 for name in names}

    monkeypatch.setattr(choice, "time_backends", time_backends)
    monkeypatch.setattr(choice, "recall", lambda key: None)
    monkeypatch.setattr(choice, "remember", lambda *arguments: None)
    monkeypatch.setattr(choice, "complete_candidates", lambda *arguments: ["masked", *SECONDS])
    return recorded


SECONDS = {"cpu": 9.5e-3, "onednn": 5e-3}


@needs_onednn
@pytest.mark.parametrize("graph", ["complete:4", "ring:8,2", "ws_flex:16,5,0.3,0"])
@pytest.mark.parametrize(("ins", "outs", "batch"), [(33, 47, 9), (16, 16, 1), (19, 64, 130)])
def test_onednn_equals_masked(graph: str, ins: int, outs: int, batch: int) -> None:
    """Values and both gradients, with shares of unequal size."""
    plan = RelationalLinear(graph, ins, outs).plan
    x, weight, bias = draw(batch, plan.in_channels), draw(plan.num_weights), draw(outs)
    grad = draw(batch, plan.out_channels)
    for name, arguments in (
        ("linear_forward", (x, weight, plan, bias)),
        ("linear_forward", (x, weight, plan)),
        ("linear_grad_input", (grad, weight, plan)),
        ("linear_grad_weight", (grad, x, plan)),
    ):
        got, expected = (getattr(module, name)(*arguments) for module in (onednn, masked))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_onednn_takes_tensors_of_any_strides() -> None:
    plan = make_plan(torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]]), [3, 4], [5, 2])
    x, weight = draw(7, 9).T, draw(plan.num_weights)  # (9, 7)
    torch.testing.assert_close(
        onednn.linear_forward(x, weight, plan), masked.linear_forward(x, weight, plan)
    )
    torch.testing.assert_close(
        onednn.linear_grad_weight(draw(1, 7).expand(9, 7), x, plan),
        masked.linear_grad_weight(draw(1, 7).expand(9, 7), x, plan),
    )


@needs_onednn
def test_onednn_takes_windows_of_a_series_that_overlap() -> None:
    layer = layer_of()
    layer.backend_choices = {KEY: "onednn"}
    x = draw(WIDTH + 5 * (BATCH - 1)).unfold(0, WIDTH, 5)
    assert x.shape == (BATCH, WIDTH)
    (expected,) = torch.autograd.grad(plain(layer, x).sin().mean(), layer.weight)
    (found,) = torch.autograd.grad(layer(x).sin().mean(), layer.weight)
    torch.testing.assert_close(found, expected)


def test_the_candidates() -> None:
    able = [name for name in ("cpu", "onednn") if not backends.get(name).unavailable_reason()]
    assert backends.complete_candidates("cpu", torch.float32) == ["masked", *able]
    on_maps = [name for name in able if name != "onednn"]  # F.conv2d is oneDNN's already
    assert backends.complete_candidates("cpu", torch.float32, (3, 3)) == ["masked", *on_maps]
    assert backends.complete_candidates("cpu", torch.bfloat16) == ["masked", *on_maps]
    assert backends.complete_candidates("cuda", torch.float32) == ["masked"]
    assert "onednn" not in backends.candidates("cpu", torch.float32)


@needs_onednn
@needs_kernels
def test_a_clearly_faster_product_is_selected_stored_and_restored(trials: list[list[str]]) -> None:
    first, second = layer_of(), layer_of()
    x = draw(BATCH, WIDTH).requires_grad_()
    y = first(x)
    assert trials == [["masked", "cpu", "onednn"], ["onednn", "masked"]]  # twice, as for any rule
    assert export_choices(torch.nn.Sequential(first)) == {"0": {KEY: "onednn"}}
    assert first.explain_backend().startswith(f"auto, {KEY}: onednn")
    torch.testing.assert_close(y, plain(first, x), rtol=1e-5, atol=1e-5)
    grad = draw(BATCH, WIDTH)
    parameters = (x, first.weight, first.bias)
    wanted = torch.autograd.grad(plain(first, x), parameters, grad)
    for got, want in zip(torch.autograd.grad(y, parameters, grad), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)
    import_choices(torch.nn.Sequential(second), {"0": {KEY: "onednn"}})
    assert torch.equal(second(x), y)
    assert len(trials) == 2  # the stored choice needs no trial


@needs_kernels
def test_bits_of_torch_where_no_other_product_is_clearly_faster(
    trials: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "onednn", 9.1e-3)
    layer, x = layer_of(), draw(BATCH, WIDTH)
    assert torch.equal(layer(x), plain(layer, x))
    assert trials == [["masked", "cpu", "onednn"]]
    assert layer.backend_choices == {KEY: "masked"}


def test_small_products_and_fixed_backends_are_plain_and_not_timed(
    trials: list[list[str]],
) -> None:
    small, x = layer_of(), draw(BATCH // 2, WIDTH)
    assert torch.equal(small(x), plain(small, x))
    for backend in ("masked", "gather", "cpu", "onednn"):
        fixed, x = layer_of(backend), draw(BATCH, WIDTH)
        assert torch.equal(fixed(x), plain(fixed, x))
    assert trials == []
    assert small.backend_choices == {}
    assert "plain dense layer" in small.explain_backend()


def test_deterministic_mode_and_tracing_are_plain_and_not_timed(trials: list[list[str]]) -> None:
    layer, x = layer_of(), draw(BATCH, WIDTH)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(layer(x), plain(layer, x))
    finally:
        torch.use_deterministic_algorithms(False)
    program = torch.export.export(layer, (x,))
    called = {str(node.target) for node in program.graph.nodes}
    assert "aten.linear.default" in called
    assert not any("mpnn_arch" in name or "mkldnn" in name for name in called)
    batched = torch.vmap(layer)(x.view(4, -1, WIDTH)).flatten(0, 1)
    torch.testing.assert_close(batched, plain(layer, x), rtol=1e-5, atol=1e-5)
    assert trials == []


@needs_kernels
def test_convolutions_are_timed_too(
    trials: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, "cpu", 1e-3)
    layer = RelationalConv2d(COMPLETE, 32, 32, 3, padding=1)
    x = draw(8, 32, 16, 16)
    torch.testing.assert_close(
        layer(x), F.conv2d(x, layer.dense_weight(), layer.bias, padding=1), rtol=1e-5, atol=1e-5
    )
    assert trials[0][0] == "masked"
    assert layer.backend_choices == {"float32 cpu 8 16 16": "cpu"}


def test_a_real_trial() -> None:
    """Whatever is selected, the numbers agree."""
    choice.forget()
    layer, x = layer_of(), draw(BATCH, WIDTH)
    torch.testing.assert_close(layer(x), plain(layer, x), rtol=1e-5, atol=1e-5)
    (selected,) = layer.backend_choices.values()
    assert selected in backends.complete_candidates("cpu", torch.float32)
