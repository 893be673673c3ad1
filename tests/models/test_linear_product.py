"""A model's dense linear layers: modules of torch, whose product is selected as that of a round."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from mpnn_arch import InputError, graphs, load, models, relationalize, save, to_dense
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.dispatch import choice
from mpnn_arch.models.dense import Dense
from mpnn_arch.models.linear_product import add_picker, linear_product
from mpnn_arch.rounds import export_choices, import_choices

INS, OUTS, BATCH = 256, 512, 64  # as many multiply-adds as are worth timing
KEY = f"float32 cpu {BATCH}"
ABLE = backends.complete_candidates("cpu", torch.float32)
OTHERS = [name for name in ABLE if name != "masked"]
needs_another = pytest.mark.skipif(not OTHERS, reason="torch's is the only dense product here")


def layer_of(selected: str | None = None, *, bias: bool = True, outs: int = OUTS) -> nn.Linear:
    """A layer that selects, or has selected ``selected`` for every batch up to 4,096."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = add_picker(nn.Linear(INS, outs, bias))
    if selected is not None:
        layer.picker.choices = {f"float32 cpu {2**i}": selected for i in range(13)}
    return layer


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def gradients(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, inputs, draw(*y.shape))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the products called from here on, in order, other than torch's own."""
    called: list[str] = []

    def recorded(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: object, **kwargs: object) -> Tensor:
            called.append(name)
            return function(*args, **kwargs)

        return call

    for name in OTHERS:
        module = backends.get(name)
        monkeypatch.setattr(module, "linear_forward", recorded(name, module.linear_forward))
    return called


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a product was timed")

    monkeypatch.setattr(choice, "time_backends", refuse)
    monkeypatch.setattr(choice, "recall", lambda key: None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replaces the timing: torch's product takes 10 ms and every other 1 ms; records the names."""
    recorded: list[list[str]] = []

    def time_backends(x, weight, plan, names, geometry=None, favourite=None):  # type: ignore[no-untyped-def]
        recorded.append(list(names))
        return {name: [10e-3 if name == "masked" else 1e-3] * 4 for name in names}

    monkeypatch.setattr(choice, "time_backends", time_backends)
    monkeypatch.setattr(choice, "recall", lambda key: None)
    monkeypatch.setattr(choice, "remember", lambda *arguments: None)
    return recorded


@pytest.mark.parametrize("selected", ABLE)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outer", [(BATCH,), (4, BATCH), (2, 3, 37)])
def test_every_choice_is_linear(
    selected: str, bias: bool, outer: tuple[int, ...], calls: list[str]
) -> None:
    """Values and gradients, of the input, the weight and the bias."""
    layer = layer_of(selected, bias=bias)
    x = draw(*outer, INS).requires_grad_()
    parameters = (x, *layer.parameters())
    y, expected = linear_product(layer, x), F.linear(x, layer.weight, layer.bias)
    assert calls == ([] if selected == "masked" else [selected])
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    pairs = zip(gradients(y, *parameters), gradients(expected, *parameters), strict=True)
    for got, wanted in pairs:
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("selected", OTHERS)
def test_strides_second_gradients_and_inference(selected: str, calls: list[str]) -> None:
    layer = layer_of(selected)
    turned = draw(8, INS, 2 * BATCH).transpose(1, 2)  # as the token MLPs of a mixer get it
    tokens = linear_product(layer, turned)
    torch.testing.assert_close(tokens, layer(turned), rtol=1e-5, atol=1e-5)

    x = draw(BATCH, INS).requires_grad_()
    penalties = []
    for y in (linear_product(layer, x), layer(x)):
        (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        penalties.append(torch.autograd.grad(grad.square().sum() / 1e6, layer.weight)[0])
    torch.testing.assert_close(*penalties, rtol=1e-4, atol=1e-4)

    with torch.inference_mode():
        torch.testing.assert_close(linear_product(layer, x), layer(x), rtol=1e-5, atol=1e-5)
    assert calls.count(selected) >= 3


@needs_another
def test_a_faster_product_is_timed_stored_and_restored(
    quick: list[list[str]], calls: list[str]
) -> None:
    first, second = nn.Sequential(layer_of()), nn.Sequential(layer_of())
    x = draw(BATCH, INS)
    y = linear_product(first[0], x)
    assert quick[0] == ABLE
    chosen = export_choices(first)
    assert chosen == {"0": {KEY: OTHERS[0]}}
    import_choices(second, chosen)
    timed = len(quick)
    calls.clear()
    assert torch.equal(linear_product(second[0], x), y)
    assert calls == [OTHERS[0]]
    assert len(quick) == timed  # the stored choice needs no trial
    with pytest.raises(InputError, match="not a round of this model nor a dense layer"):
        import_choices(nn.Sequential(nn.Linear(2, 2)), chosen)


def test_a_real_trial() -> None:
    """Whatever is selected, the numbers agree."""
    choice.forget()
    layer, x = layer_of(), draw(BATCH, INS)
    torch.testing.assert_close(linear_product(layer, x), layer(x), rtol=1e-5, atol=1e-5)
    (selected,) = layer.picker.choices.values()
    assert selected in ABLE


def test_bits_of_torch_where_nothing_is_timed(no_trials: None) -> None:
    """Small and empty batches, single vectors, other dtypes, fixed backends, deterministic mode."""
    layer = layer_of()
    for x in (draw(BATCH // 4, INS), draw(0, INS), draw(INS), draw(3, 0, INS)):
        assert torch.equal(linear_product(layer, x), layer(x))
    x = draw(BATCH, INS)
    double = layer_of().double()
    assert torch.equal(linear_product(double, x.double()), double(x.double()))
    half = layer_of().bfloat16()
    assert torch.equal(linear_product(half, x.bfloat16()), half(x.bfloat16()))
    for backend in ("reference", *ABLE):
        fixed = add_picker(layer_of(), backend)
        assert torch.equal(linear_product(fixed, x), fixed(x))
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(linear_product(layer, x), layer(x))
    finally:
        torch.use_deterministic_algorithms(False)
    assert layer.picker.choices == {}
    with pytest.raises(InputError, match="no backend 'mkl'"):
        add_picker(nn.Linear(2, 2), "mkl")


def test_double_precision_passes_gradcheck(small_limit: None, no_trials: None) -> None:
    layer, x = add_picker(nn.Linear(5, 3)).double(), draw(4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: linear_product(layer, x), (x,))


@pytest.mark.parametrize(
    "register",
    [
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
        nn.modules.module.register_module_full_backward_hook,
        nn.modules.module.register_module_full_backward_pre_hook,
    ],
)
def test_hooks_on_all_modules_see_the_call(register: Any, calls: list[str]) -> None:
    layer, x = layer_of(OTHERS[0]), draw(BATCH, INS).requires_grad_()
    seen: list[nn.Module] = []
    handle = register(lambda module, *_: seen.append(module))
    try:
        linear_product(layer, x).sum().backward()
    finally:
        handle.remove()
    assert seen == [layer]


@pytest.mark.parametrize("selected", OTHERS)
def test_torch_is_called_where_the_call_has_to_be_seen(selected: str, calls: list[str]) -> None:
    """Hooks, parametrisations, masks, own forward functions, transforms, modes and autocast."""
    x = draw(BATCH, INS)
    plain = layer_of(selected)

    seen: list[int] = []
    hooked = layer_of(selected)
    hooked.register_forward_hook(lambda *_: seen.append(1))
    assert torch.equal(linear_product(hooked, x), plain(x))
    handle = nn.modules.module.register_module_forward_hook(lambda *_: seen.append(2))
    try:
        linear_product(plain, x)
    finally:
        handle.remove()
    assert seen == [1, 2]

    pruned, spectral, patched = (layer_of(selected) for _ in range(3))
    prune.l1_unstructured(pruned, "weight", 0.5)
    parametrizations.spectral_norm(spectral)
    patched.forward = lambda x: x  # as libraries do that move weights between devices
    for layer in (pruned, spectral, patched):
        layer.eval()
        assert torch.equal(linear_product(layer, x), layer(x))
    assert (linear_product(pruned, x) != plain(x)).any()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear_product(plain, x).dtype == torch.bfloat16
    with torch.device("cpu"):  # a mode that torch's functions pass through
        assert torch.equal(linear_product(plain, x), plain(x))
    mapped = torch.vmap(lambda x: linear_product(plain, x))(x.view(2, -1, INS))
    torch.testing.assert_close(mapped.flatten(0, 1), plain(x), rtol=1e-5, atol=1e-5)
    assert linear_product(copy.deepcopy(plain).to("meta"), x.to("meta")).shape == (BATCH, OUTS)
    assert calls == []


@pytest.mark.parametrize("selected", OTHERS)
def test_tracers_see_the_linear_layer(selected: str, calls: list[str], no_trials: None) -> None:
    x = draw(BATCH, INS)
    for layer in (layer_of(), layer_of(selected)):
        model = Dense(layer)
        for strict in (True, False):
            program = torch.export.export(model, (x,), strict=strict)
            called = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
            assert called == ["aten.linear.default"]
        nodes = torch.fx.symbolic_trace(model).graph.nodes
        assert [str(node.target) for node in nodes if node.op == "call_module"] == ["layer"]
        traced = torch.jit.trace(model, (x,), check_trace=False)  # its check is an eager call
        torch.testing.assert_close(traced(x), layer(x))
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x), layer(x))
    assert calls == []


def test_flops_are_counted_as_those_of_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        linear_product(layer_of(OTHERS[0] if OTHERS else None), draw(BATCH, INS))
    assert counter.get_total_flops() == 2 * BATCH * INS * OUTS


@needs_another
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_keep_the_choice(how: str, calls: list[str], no_trials: None) -> None:
    layer, x = layer_of(OTHERS[0]), draw(BATCH, INS)
    y = linear_product(layer, x)
    other = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    assert torch.equal(linear_product(other, x), y)
    assert calls == [OTHERS[0]] * 2
    assert other.picker is not layer.picker
    with torch.no_grad():
        other.weight.zero_()
    assert torch.equal(linear_product(layer, x), y)  # it has weights of its own
    assert torch.equal(linear_product(other, x), other.bias.expand(BATCH, -1))


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product is worth timing."""
    monkeypatch.setattr(choice, "_SMALL", 1)


MODELS = {
    "mlp": ({"in_features": 64, "hidden_features": 32}, ["stem.layer", "head"]),
    "cnn8": ({"width_multiplier": 0.25, "image_size": 16}, ["head.linear"]),
    "vit": ({"width_multiplier": 1 / 12, "image_size": 32}, ["head"]),
    "mlp_mixer": (
        {"width_multiplier": 1 / 32, "image_size": 32},
        ["blocks.0.token_mlp.0", "blocks.0.token_mlp.2", "head"],
    ),
}


@needs_another
@pytest.mark.parametrize("name", MODELS)
def test_stems_heads_and_token_layers_select(
    name: str, quick: list[list[str]], small_limit: None
) -> None:
    settings, layers = MODELS[name]
    graph = graphs.ring(8, 4)
    auto = models.build(name, graph, **settings)
    fixed = models.build(name, graph, backend="masked", **settings)
    x = draw(4, *auto.model_config.input_shape)
    torch.testing.assert_close(auto(x), fixed(x), rtol=1e-4, atol=1e-5)
    chosen = export_choices(auto)
    for layer in layers:
        assert type(auto.get_submodule(layer)) is nn.Linear
        assert set(chosen[layer].values()) == {OTHERS[0]}
    assert export_choices(fixed) == {}
    assert fixed.state_dict().keys() == auto.state_dict().keys()


@needs_another
def test_saved_models_keep_the_choices(
    quick: list[list[str]], small_limit: None, tmp_path: object, calls: list[str]
) -> None:
    model = models.build("mlp", graphs.ring(8, 4), in_features=64, hidden_features=32).eval()
    x = draw(4, 64)
    y = model(x)
    save(model, f"{tmp_path}/mlp.safetensors")
    loaded = load(f"{tmp_path}/mlp.safetensors").eval()
    assert export_choices(loaded) == export_choices(model)
    timed = len(quick)
    assert torch.equal(loaded(x), y)
    assert len(quick) == timed
    plain = load(f"{tmp_path}/mlp.safetensors", backend="reference")
    assert export_choices(plain) == {}


def test_tools_that_look_for_the_type_find_it() -> None:
    """Dynamic quantisation, dense twins and relationalize know the layers as torch's own."""
    model = models.build("mlp", graphs.ring(8, 4), in_features=64, hidden_features=32)
    assert "Linear(in_features=64, out_features=32, bias=False)" in repr(model)
    dense = to_dense(model).eval()
    quantised = torch.ao.quantization.quantize_dynamic(dense, {nn.Linear})
    assert not any(type(module) is nn.Linear for module in quantised.modules())
    x = draw(4, 64)
    assert quantised(x).shape == dense(x).shape
    plain = models.build("mlp", in_features=64, hidden_features=32)
    changed = relationalize(plain, graphs.ring(8, 4), skip=("first", "last"))
    assert type(changed.stem.layer) is nn.Linear
    assert not any(type(layer.layer) is nn.Linear for layer in changed.rounds)
