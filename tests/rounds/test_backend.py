"""The backend of a round: default, hooks, stored choices, explanation."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch_geometric.nn import MaxAggregation, MultiAggregation, SumAggregation

from mpnn_arch import FusedRound, InputError, MessageRound, RelationalGraph
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.block_matmul import block_matmul
from mpnn_arch.rounds import RelationalLinear, export_choices, import_choices

PATH = RelationalGraph(4, [[0, 1, 2], [1, 2, 3]])


def dense(layer: FusedRound, x: torch.Tensor) -> torch.Tensor:
    """The sum of linear messages by torch's own product, without bias."""
    return F.linear(x, layer.dense_weight())


def test_auto_is_the_default_and_fuses() -> None:
    layer = FusedRound(PATH, 8, 8)
    calls = []
    layer.register_message_and_aggregate_forward_hook(lambda m, i, out: calls.append(out.shape))
    layer(torch.zeros(3, 8))
    assert layer.backend == "auto"
    assert calls == [(3, 8)]
    assert "float32 cpu 4" in layer.explain_backend()


def test_auto_passes_messages_where_nothing_can_be_fused() -> None:
    layer = FusedRound(PATH, 8, 8, aggr="max")
    assert layer(torch.ones(3, 8)).shape == (3, 8)
    assert layer.explain_backend() == "reference: aggr='max' is not the sum or mean of its messages"
    with pytest.raises(InputError, match="'gather' cannot compute this round, aggr='max'"):
        layer.backend = "gather"


@pytest.mark.parametrize("backend", ["auto", *backends.names(), "reference"])
@pytest.mark.filterwarnings("ignore:the .* backend")
def test_an_aggregation_that_is_set_later_is_computed_and_named(backend: str) -> None:
    try:
        layer = FusedRound(PATH, 8, 8, backend=backend)
        layer(torch.ones(3, 8))
    except InputError as error:
        pytest.skip(str(error))
    layer.aggr_module = MaxAggregation()
    literal = MessageRound(PATH, 8, 8, aggr="max")
    literal.load_state_dict(layer.state_dict())
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), literal(x))
    assert "aggr='MaxAggregation()'" in repr(layer)
    if backend != "reference":
        assert layer.explain_backend().startswith("reference: aggr='MaxAggregation()' is not")
    layer.aggr_module = SumAggregation()
    assert not layer.passes_messages or backend == "reference"
    torch.testing.assert_close(layer(x), dense(layer, x) + layer.bias)


@pytest.mark.parametrize(
    ("built", "given", "words"),
    [("sum", ["mean", "max"], "2 times .*takes 1 times"), ("mean+max", "sum", "1 times .*takes 2")],
)
@pytest.mark.parametrize("kind", [MessageRound, FusedRound])
def test_an_aggregation_of_other_channels_is_refused_where_it_is_set(kind, built, given, words):
    layer = kind(PATH, 8, 8, aggr=built)
    before, x = layer.aggr_module, torch.ones(3, 8)
    other = MultiAggregation(given) if isinstance(given, list) else SumAggregation()
    with pytest.raises(InputError, match=words):
        layer.aggr_module = other
    assert layer.aggr_module is before
    assert layer.aggr == built
    layer(x)
    layer.aggr_module = copy.deepcopy(before)


@pytest.mark.parametrize(
    "kind",
    ["message_forward_pre", "message_forward", "aggregate_forward_pre", "aggregate_forward"],
)
def test_a_message_hook_switches_to_the_reference_and_warns(kind: str) -> None:
    layer = FusedRound(PATH, 8, 8, backend="gather")
    x = torch.ones(3, 8)
    expected = dense(layer, x) + layer.bias
    torch.testing.assert_close(layer(x), expected)
    seen = []
    words = f"the {kind}_hook needs messages.*instead of 'gather'"
    with pytest.warns(UserWarning, match=words) as warned:
        handle = getattr(layer, f"register_{kind}_hook")(lambda *args: seen.append(kind))
    torch.testing.assert_close(layer(x), expected)
    assert warned[0].filename == __file__  # whose line registers it
    assert seen == [kind]
    assert layer.explain_backend().startswith(f"reference: a {kind}_hook is registered")
    handle.remove()
    layer(x)
    assert seen == [kind]
    assert layer.explain_backend() == "gather: requested"


def test_choices_travel_with_the_model() -> None:
    def network() -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        rounds = (RelationalLinear(PATH, 8, 9, generator=generator) for _ in "ab")
        return nn.Sequential(next(rounds), nn.Linear(9, 8), next(rounds))

    first, second = network(), network()
    first(torch.ones(3, 8))
    stored = export_choices(first)
    assert set(stored) == {"0", "2"}
    assert set(stored["0"]) == {"float32 cpu 4"}
    other = {"float32 cpu 4": "gather" if stored["0"]["float32 cpu 4"] == "masked" else "masked"}
    import_choices(second, stored | {"0": other})
    second(torch.ones(3, 8))
    assert export_choices(second)["0"] == other
    assert "stored with the weights" in second[0].explain_backend()
    with pytest.raises(InputError, match="'1', which is not a round"):
        import_choices(second, {"1": {}})


def test_the_complete_graph_needs_no_choice() -> None:
    layer = RelationalLinear(RelationalGraph.from_adjacency(torch.ones(4, 4).int()), 8, 8)
    layer(torch.ones(3, 8))
    assert layer.backend_choices == {}
    assert "plain dense layer" in layer.explain_backend()


class Doubled(FusedRound):
    """A round whose messages are twice as large."""

    def message(self, x_j, x_i, index):  # type: ignore[no-untyped-def]
        return 2 * super().message(x_j, x_i, index)


class Shifted(FusedRound):
    """A round that overrides the update."""

    def update(self, inputs, residual):  # type: ignore[no-untyped-def]
        return super().update(inputs, residual) + 4


def test_a_subclass_that_overrides_messages_passes_them() -> None:
    plain, doubled = (
        kind(PATH, 8, 8, bias=False, generator=torch.Generator().manual_seed(0))
        for kind in (FusedRound, Doubled)
    )
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(doubled(x), 2 * dense(plain, x))
    assert doubled.explain_backend() == "reference: Doubled overrides message or aggregate"
    with pytest.raises(InputError, match="'gather' cannot compute this round, Doubled overrides"):
        doubled.backend = "gather"


@pytest.mark.parametrize("backend", ["gather", "reference"])
def test_an_overridden_update_is_called(backend: str) -> None:
    plain, shifted = (
        kind(PATH, 8, 8, backend=backend, generator=torch.Generator().manual_seed(0))
        for kind in (FusedRound, Shifted)
    )
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(shifted(x), dense(plain, x) + plain.bias + 4)


@pytest.mark.parametrize("kind", ["propagate", "message_and_aggregate"])
def test_a_hook_of_the_fused_round_is_called_and_changes_nothing(kind: str) -> None:
    layer = FusedRound(PATH, 8, 8, backend="gather", activation="ReLU")
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    expected, seen = layer(x), []
    torch.testing.assert_close(expected, (dense(layer, x) + layer.bias).relu())
    before = getattr(layer, f"register_{kind}_forward_pre_hook")(lambda *args: seen.append("pre"))
    after = getattr(layer, f"register_{kind}_forward_hook")(lambda *args: seen.append("post"))
    assert torch.equal(layer(x), expected)
    assert seen == ["pre", "post"]
    before.remove(), after.remove()
    assert torch.equal(layer(x), expected)
    assert seen == ["pre", "post"]


def test_a_subclass_that_overrides_no_step_is_fused_like_its_base() -> None:
    FusedRound(PATH, 8, 8)  # PyG sets a `propagate` on the class of its first instance

    class Named(FusedRound):
        pass

    class NamedTwice(Doubled):
        pass

    assert Named(PATH, 8, 8).why_not_fused() is None
    assert Named._own_steps == frozenset()
    assert NamedTwice._own_steps == {"message"}


def twice(layer: object, inputs: object, out: torch.Tensor) -> torch.Tensor:
    return 2 * out


@pytest.mark.parametrize("backend", ["auto", "masked", "reference"])
@pytest.mark.parametrize("step", ["message", "aggregate", "message_and_aggregate", "propagate"])
@pytest.mark.filterwarnings("ignore:the .*_hook needs messages")
def test_a_hooked_round_is_copied_and_pickled_with_its_hooks(
    step: str, backend: str, generator: torch.Generator
) -> None:
    layer = RelationalLinear(PATH, 8, 12, backend=backend, generator=generator)
    getattr(layer, f"register_{step}_forward_hook")(twice)
    x = torch.randn(3, 8, generator=generator)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), layer(x))
        assert copied.passes_messages == layer.passes_messages
        before = copied(x)
        handle = getattr(copied, f"register_{step}_forward_hook")(twice)
        again = copied(x)
        handle.remove()
        assert torch.equal(copied(x), before)
        never_run = backend == "reference" and step == "message_and_aggregate"
        assert torch.equal(again, before) == never_run


@pytest.mark.parametrize("kind", ["vectors", "maps"])
@pytest.mark.parametrize("backend", ["auto", *backends.names()])
@pytest.mark.filterwarnings("ignore:the .* backend", "ignore:Complex modules")
def test_complex_numbers_have_the_gradients_of_the_equation(
    backend: str, kind: str, generator: torch.Generator
) -> None:
    maps = {"message": "conv", "message_kwargs": {"kernel_size": (3, 3)}} if kind == "maps" else {}
    layer = FusedRound(PATH, 8, 8, backend=backend, dtype=torch.complex64, **maps)
    equation = MessageRound(PATH, 8, 8, dtype=torch.complex64, **maps)
    with torch.no_grad():
        for parameter in layer.parameters():
            drawn = torch.randn(*parameter.shape, 2, generator=generator)
            parameter.copy_(torch.view_as_complex(drawn))
    equation.load_state_dict(layer.state_dict())
    space = (5, 5) if maps else ()
    x = torch.view_as_complex(torch.randn(3, 8, *space, 2, generator=generator)).requires_grad_()
    for _ in range(2):  # the second time with a product that is cached
        out, expected = layer(x), equation(x)
        torch.testing.assert_close(out, expected)
        got = torch.autograd.grad(out.abs().square().sum(), [x, *layer.parameters()])
        want = torch.autograd.grad(expected.abs().square().sum(), [x, *equation.parameters()])
        for mine, true in zip(got, want, strict=True):
            torch.testing.assert_close(mine, true, rtol=1e-4, atol=1e-4)


def test_a_product_of_complex_numbers_needs_a_backend_with_conjugates() -> None:
    plan = FusedRound(PATH, 8, 8).plan
    x = torch.ones(3, 8, dtype=torch.complex64)
    weight = torch.ones(plan.num_weights, dtype=torch.complex64)
    assert block_matmul(x, weight, plan, "masked").is_complex()
    with pytest.raises(InputError, match=r"no kernels for torch\.complex64; use backend='masked'"):
        block_matmul(x, weight, plan, "gather")


@pytest.mark.parametrize("settings", [{}, {"backend": "masked"}, {"message": "gated"}], ids=str)
def test_layers_alike_are_compiled_once_block_by_block(
    settings: dict[str, Any], generator: torch.Generator
) -> None:
    """As "regional compilation" does, where torch allows eight programs of one function."""
    torch._dynamo.reset()
    counter, x = CompileCounter(), torch.randn(5, 8, generator=generator)
    layers = nn.Sequential(*[RelationalLinear("ring:4,2", 8, 8, **settings) for _ in range(10)])
    expected = layers(x)  # eager, which selects backends
    for layer in layers:
        layer.compile(backend=counter, fullgraph=True, dynamic=True)
    torch.testing.assert_close(layers(x), expected)
    assert counter.frame_count <= 2
    layers[0].forward(x[:1]), layers[0].forward(x.repeat(30, 1))  # other batches, eager
    before = counter.frame_count
    layers(x)
    assert counter.frame_count == before
