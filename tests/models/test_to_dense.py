"""Rounds as dense layers, and what a quantiser does with rounds and with those."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import parametrize, prune

from mpnn_arch import (
    GraphRound,
    InputError,
    RelationalConv2d,
    RelationalLinear,
    graphs,
    models,
    relationalize,
    to_dense,
)
from mpnn_arch.models.dense import Dense

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
OLD = pytest.mark.filterwarnings(
    "ignore:torch.ao.quantization is deprecated", "ignore::DeprecationWarning"
)


def network(generator: torch.Generator) -> nn.Module:
    options = {"generator": generator}
    shared = RelationalLinear(GRAPH, 24, 24, activation=torch.tanh, aggr="mean", **options)
    return nn.Sequential(
        RelationalConv2d(GRAPH, 8, 19, 3, stride=2, padding=1, bias=False, **options),
        RelationalConv2d(
            GRAPH, 19, 19, 3, padding="same", norm="batch", activation="relu",
            residual=True, squeeze_excitation=2, **options
        ),
        nn.Flatten(),
        RelationalLinear(GRAPH, 19 * 9, 24, norm="group", message="low_rank", generator=generator),
        shared,
        shared,
        RelationalLinear(GRAPH, 24, 10, message="shared_linear", **options),
    )  # fmt: skip


@pytest.fixture
def x(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(5, 8, 6, 6, generator=generator)


def test_the_outputs_are_the_same_and_the_network_is_not_changed(x, generator):
    model = network(generator).eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.warns(UserWarning, match=r"stay rounds: 3: LowRankMessage is not a single product"):
        dense = to_dense(model)
    torch.testing.assert_close(dense(x), model(x))
    assert [type(layer) for layer in dense] == [
        nn.Conv2d, Dense, nn.Flatten, RelationalLinear, Dense, Dense, nn.Linear
    ]  # fmt: skip
    assert dense[4] is dense[5]
    assert type(model[0]) is RelationalConv2d
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not dense[0].training
    assert dense[0].bias is None


@pytest.mark.parametrize("name", models.list_models())
def test_every_model(name: str, generator: torch.Generator) -> None:
    size = {} if name == "mlp" else {"length": 40} if name == "cnn1d" else {"image_size": 32}
    model = models.build(name, "ring:4,2", width_multiplier=0.25, num_classes=3, **size).eval()
    # The scores of a fresh network hardly depend on its rounds: each gets an output that does.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    x = torch.randn(2, *model.model_config.input_shape, generator=generator)
    expected = model(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(to_dense(model)(x), expected, rtol=1e-3, atol=1e-3)


def test_a_round_by_itself_in_its_dtype(generator):
    layer = RelationalLinear(GRAPH, 16, 16, generator=generator, dtype=torch.float64)
    layer.bias.requires_grad_(False)
    dense = to_dense(layer)
    assert type(dense) is nn.Linear
    assert dense.weight.dtype == torch.float64
    assert (dense.weight.requires_grad, dense.bias.requires_grad) == (True, False)
    x = torch.randn(3, 16, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(dense(x), layer(x))


def test_what_is_not_one_matrix_is_refused():
    with pytest.raises(
        InputError, match=r"no round of this RelationalLinear is one product with its weights; it: "
    ):
        to_dense(RelationalLinear(GRAPH, 16, 16, aggr="max"))
    with pytest.raises(InputError, match="its graph comes with the input"):
        to_dense(nn.Sequential(GraphRound(16, 16)))
    with pytest.raises(InputError, match="no round of this Linear is one product"):
        to_dense(nn.Linear(3, 3))
    with pytest.raises(InputError, match="to_dense takes a torch module with rounds, not 3"):
        to_dense(3)


@OLD
def test_a_quantiser_that_leaves_a_round_as_it_is_is_heard(x, generator):
    model = nn.Sequential(RelationalLinear(GRAPH, 16, 24, generator=generator), nn.Linear(24, 8))
    with pytest.warns(UserWarning, match=r"leaves RelationalLinear as it is: quantise mpnn_arch"):
        quantised = quantize_dynamic(model)
    assert type(quantised[0]) is RelationalLinear
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        copy.deepcopy(model).eval().requires_grad_(False)


@OLD
@pytest.mark.skipif(
    set(torch.backends.quantized.supported_engines) <= {"none"},
    reason="this torch has no engine for quantised products",
)
def test_dynamic_quantisation_of_the_dense_layers(generator):
    model = nn.Sequential(
        RelationalLinear(GRAPH, 64, 64, activation="relu", generator=generator),
        RelationalLinear(GRAPH, 64, 16, generator=generator),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*leaves Relational")
        quantised = quantize_dynamic(to_dense(model))
    kinds = [type(m).__module__ for m in quantised.modules() if hasattr(m, "scale")]
    assert kinds == ["torch.ao.nn.quantized.dynamic.modules.linear"] * 2
    x = torch.randn(32, 64, generator=generator)
    error = (quantised(x) - model(x)).abs().max() / model(x).abs().max()
    assert 0 < error < 0.03
    weight = quantised[0].layer.weight()
    absent = model[0].dense_weight() == 0
    assert weight.dequantize()[absent].count_nonzero() == 0  # the graph is kept
    assert weight.dtype == torch.qint8


def test_hooks_on_a_rounds_calls_stay(generator: torch.Generator) -> None:
    layer = RelationalLinear(GRAPH, 16, 24, generator=generator)
    layer.register_forward_hook(lambda module, inputs, out: 2 * out)
    layer.register_forward_pre_hook(
        lambda module, inputs, named: ((inputs[0] + 1,), named), with_kwargs=True
    )
    seen: list[object] = []
    layer.register_full_backward_hook(lambda module, *gradients: seen.append(module))
    prune.l1_unstructured(layer, "bias", 0.5)
    dense = to_dense(layer)
    x = torch.randn(3, 16, generator=generator, requires_grad=True)
    torch.testing.assert_close(dense(x), layer(x))
    dense(x).sum().backward()
    assert seen == [dense]


def test_a_hook_on_messages_leaves_a_round() -> None:
    layer = RelationalLinear(GRAPH, 16, 24, backend="reference")
    layer.register_message_forward_hook(lambda module, inputs, messages: 2 * messages)
    with pytest.raises(InputError, match="a message_forward_hook is registered"):
        to_dense(layer)


def test_a_pruned_network_after_a_step(generator: torch.Generator) -> None:
    layer = RelationalLinear(GRAPH, 16, 24, generator=generator)
    prune.l1_unstructured(layer.message_function, "weight", 0.5)
    prune.l1_unstructured(layer, "bias", 0.5)
    x = torch.randn(3, 16, generator=generator)
    layer(x).sum().backward()
    network = nn.Sequential(layer, nn.Linear(24, 16))
    dense = to_dense(network)
    torch.testing.assert_close(dense(x), network(x))
    assert models.complexity(network, (16,)).multiply_adds > 0
    mixed = relationalize(network, "complete:8", skip=())
    torch.testing.assert_close(mixed(x), network(x))
    with torch.no_grad():  # the copies have weights of their own
        layer.bias_orig.zero_()
    assert not torch.allclose(dense(x), network(x))


class Scaled(RelationalLinear):
    """A layer of a user's own around the round."""

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        return 3 * super().forward(x, residual)


def test_a_forward_of_ones_own_stays(generator: torch.Generator) -> None:
    replaced = RelationalLinear(GRAPH, 16, 16, generator=generator)
    forward = replaced.forward
    replaced.forward = lambda x: forward(x) - 1  # type: ignore[method-assign]
    model = nn.Sequential(
        RelationalLinear(GRAPH, 16, 16, generator=generator),
        Scaled(GRAPH, 16, 16, generator=generator),
        replaced,
    )
    with pytest.warns(UserWarning, match=r"Scaled overrides forward.*its forward was replaced"):
        twin = to_dense(model)
    assert [type(layer) for layer in twin] == [nn.Linear, Scaled, RelationalLinear]
    x = torch.randn(5, 16, generator=generator)
    torch.testing.assert_close(twin(x), model(x))


def test_rounds_that_share_parameters_share_them_as_dense_layers(
    generator: torch.Generator,
) -> None:
    def layer(**kwargs: object) -> RelationalLinear:
        return RelationalLinear(GRAPH, 16, 16, generator=generator, **kwargs)

    first, second, mean, other = layer(), layer(), layer(aggr="mean"), layer()
    elsewhere = RelationalLinear("ws_flex:8,4,0.9,1", 16, 16, generator=generator)
    head = nn.Linear(16, 16)
    for tied in (second, mean, elsewhere):  # the last one has as many entries
        tied.weight = first.weight
    other.message_function = first.message_function
    second.bias = head.bias = first.bias
    model = nn.Sequential(first, second, mean, other, elsewhere, head)
    dense = to_dense(model)
    x = torch.randn(3, 16, generator=generator)
    torch.testing.assert_close(dense(x), model(x))
    assert dense[0].weight is dense[1].weight is dense[3].weight
    assert dense[2].weight is not dense[0].weight  # divided by the degrees
    assert dense[4].weight is not dense[0].weight
    assert dense[0].bias is dense[1].bias is dense[5].bias is not dense[3].bias
    assert dense[0].bias is not first.bias


def test_another_matrix_of_the_same_parameter_is_another_weight(
    generator: torch.Generator,
) -> None:
    pairs = [[RelationalLinear(GRAPH, 16, 16, generator=generator) for _ in range(2)] for _ in "ab"]
    for one, two in pairs:
        two.weight = one.weight
    prune.l1_unstructured(pairs[0][1].message_function, "weight", 0.5)
    parametrize.register_parametrization(pairs[1][1].message_function, "weight", nn.Tanh())
    for one, two in pairs:
        model = nn.Sequential(one, two)
        dense = to_dense(model)
        x = torch.randn(3, 16, generator=generator)
        torch.testing.assert_close(dense(x), model(x))
        assert dense[0].weight is not dense[1].weight
