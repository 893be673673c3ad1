"""PyG's aggregations on messages with batch and space, with torch-scatter and without."""

import importlib.util

import pytest
import torch
from torch import nn
from torch_geometric.nn import aggr as pyg

from mpnn_arch import InputError, RelationalConv2d, RelationalGraph, RelationalLinear, models
from mpnn_arch.rounds.aggregations import aggregate_messages, aggregations, make_aggregation

GRAPH = RelationalGraph(4, [[0, 1, 2, 0], [1, 2, 3, 2]])


EVERY_FORM = pytest.mark.parametrize(
    "aggr",
    [
        "sum",
        "mean+max",
        ["mean", "std"],
        ["softmax", pyg.MedianAggregation()],
        pyg.SoftmaxAggregation(learn=True),
        pyg.PowerMeanAggregation(p=3.0),
        pyg.LSTMAggregation(3, 3),
        pyg.Set2Set(3, processing_steps=2),
        pyg.MaxAggregation,
        "PowerMean",
    ],
)


@EVERY_FORM
def test_it_is_pygs_own_on_the_messages_of_every_sample_and_pixel(aggr, generator):
    made = {"aggr": aggr, "bias": False, "generator": generator}
    linear = RelationalLinear(GRAPH, 12, 12, **made)
    conv = RelationalConv2d(GRAPH, 12, 12, 3, padding=1, backend="reference", **made)
    linear.backend = "reference"
    index = GRAPH.edge_index[1]
    for layer, space in ((linear, ()), (conv, (2, 3))):
        seen = []
        layer.register_message_forward_hook(lambda m, i, out, seen=seen: seen.append(out))
        out = layer(torch.rand(2, 12, *space, generator=generator))
        (messages,) = seen  # (E, B, 3, ...)
        assert messages.std() > 0.01
        samples = messages.movedim(2, -1).flatten(1, -2)  # a graph of its own each: (E, B * ..., 3)
        table = torch.stack(
            [layer.aggr_module(sample, index, dim_size=4) for sample in samples.unbind(1)], dim=1
        )
        expected = table.unflatten(1, (2, *space)).movedim(-1, 2)  # (N, B, C, ...)
        if layer.projection is not None:
            expected = layer.projection(expected)
        torch.testing.assert_close(out, expected.transpose(0, 1).flatten(1, 2))


@EVERY_FORM
def test_names_instances_classes_and_lists_work_over_vectors_and_maps(aggr, generator):
    init = {"aggr": aggr, "generator": generator}
    linear = RelationalLinear(GRAPH, 7, 9, **init)
    conv = RelationalConv2d(GRAPH, 7, 9, 3, padding=1, **init)
    for layer, x in ((linear, torch.rand(2, 7)), (conv, torch.rand(2, 7, 3, 3))):
        out = layer(x)
        assert out.shape == (2, 9, *x.shape[2:])
        out.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_an_instance_is_copied_for_every_round():
    aggr = pyg.SoftmaxAggregation(learn=True)
    first, second = (RelationalLinear(GRAPH, 8, 8, aggr=aggr) for _ in "ab")
    assert len({id(m) for m in (aggr, first.aggr_module, second.aggr_module)}) == 3


def test_arguments_reach_the_aggregation():
    quantiles = RelationalLinear(GRAPH, 8, 8, aggr="quantile", aggr_kwargs={"q": [0.1, 0.9]})
    assert quantiles.aggr_module.q.flatten().tolist() == pytest.approx([0.1, 0.9])
    assert quantiles.projection.weight.numel() == 4 * 2 * 2 * 2
    gate = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    gated = RelationalLinear(GRAPH, 8, 8, aggr="attentional", aggr_kwargs={"gate_nn": gate})
    assert gated.multiply_adds() == 12 * 4 + 12 * (2 * 4 + 4)
    scaled = RelationalLinear(GRAPH, 8, 8, aggr="degree-scaled")
    degrees = scaled.plan.edge_ptr.diff().double()
    assert float(scaled.aggr_module.avg_deg_lin) == pytest.approx(degrees.mean().item())


def test_the_cost_of_an_lstm_is_that_of_its_products():
    widths = {"in_channels": 2, "out_channels": 2}
    layer = RelationalLinear(GRAPH, 8, 8, aggr="lstm", aggr_kwargs=widths)
    # PyG pads every node's messages to the largest degree: 4 gates, each of 2 x 2 twice.
    steps = 4 * int(layer.plan.edge_ptr.diff().max())
    assert layer.multiply_adds() == 12 * 4 + steps * 4 * 2 * (2 + 2)


class Whitened(pyg.Aggregation):
    """A gate, running statistics and a dropout: a run changes buffers and draws numbers."""

    def __init__(self):
        super().__init__()
        self.gate, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        x = nn.functional.dropout(self.norm(self.gate(x)), 0.5, self.training)
        return self.reduce(x, index, ptr, dim_size, dim, reduce="sum")


@pytest.mark.parametrize("aggr", [Whitened, Whitened(), "sum"])
def test_building_and_counting_neither_change_state_nor_draw_from_torchs_numbers(aggr):
    layers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        layer = RelationalLinear(
            GRAPH, 16, 16, aggr=aggr, generator=torch.Generator().manual_seed(0)
        )
        layer.multiply_adds()
        layer.reset_parameters(torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), before)
        layers.append(layer.state_dict())
    torch.testing.assert_close(*layers, rtol=0, atol=0)
    if aggr != "sum":
        assert layers[0]["aggr_module.norm.num_batches_tracked"] == 0


def test_two_aggregations_of_a_list_start_apart():
    layer = RelationalLinear(
        GRAPH, 16, 16, aggr="multi", aggr_kwargs={"aggrs": [Whitened, Whitened]}
    )
    one, two = layer.aggr_module.aggrs
    assert not torch.equal(one.gate.weight, two.gate.weight)


class LargestTwo(pyg.Aggregation):
    """Learned weights of the two largest messages, channel by channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.5]))

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        table, _ = self.to_dense_batch(x, index, ptr, dim_size, dim, fill_value=-1e9)
        largest = table.topk(2, dim=1).values
        return (largest.clamp(min=-1e3) * self.weight.view(1, 2, 1)).sum(1)


@pytest.mark.parametrize(
    ("aggr", "arguments"), [("power-mean", {"learn": True}), (LargestTwo, None)]
)
def test_a_model_has_aggregations_that_read_values_or_indices(aggr, arguments):
    settings = {"in_features": 20, "hidden_features": 64, "seed": 0}
    model, plain = (
        models.build("mlp", "ring:16,4", **chosen, **settings)
        for chosen in ({"aggr": aggr, "aggr_kwargs": arguments}, {})
    )
    assert model(torch.zeros(2, 20)).shape == plain(torch.zeros(2, 20)).shape
    # Its parameters multiply no matrix, so both have the same widths and cost.
    assert model.widths == plain.widths
    assert models.complexity(model).multiply_adds == models.complexity(plain).multiply_adds

    def build(seed):
        generator = torch.Generator().manual_seed(seed)
        return RelationalLinear(GRAPH, 8, 8, aggr="attentional", generator=generator)

    before = torch.get_rng_state()
    first, same, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.aggr_module.gate_nn.weight, same.aggr_module.gate_nn.weight)
    assert not torch.equal(first.aggr_module.gate_nn.weight, other.aggr_module.gate_nn.weight)


@pytest.mark.parametrize(
    ("aggr", "more"),
    [
        ("lstm", {}),
        (pyg.LSTMAggregation, {}),
        ("gru", {}),
        ("set_transformer", {"heads": 1}),
        ("set2set", {"processing_steps": 2}),
        ("sum+lstm", {}),
    ],
)
def test_widths_that_an_aggregation_asks_for_are_those_of_the_round(aggr, more, generator):
    for channels in (8, 12):
        layer = RelationalLinear(
            GRAPH, channels, channels, aggr=aggr, aggr_kwargs=more, generator=generator
        )
        out = layer(torch.randn(3, channels, generator=generator))
        assert out.shape == (3, channels)
        assert out.isfinite().all()


class WithoutPointers(pyg.Aggregation):
    def forward(self, x, index):
        return self.reduce(x, index)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"aggr": "sofmax"}, "no aggregation 'sofmax'.*'softmax'"),
        ({"aggr": "sum+"}, "no aggregation ''; choose one of "),
        ({"aggr": "aggregation"}, "no aggregation 'aggregation'"),
        ({"aggr": "quantile", "aggr_kwargs": {"q": 2.0}}, "rejected its arguments"),
        ({"aggr": "sum", "aggr_kwargs": {"q": 1}}, "rejected its arguments"),
        ({"aggr": pyg.SumAggregation(), "aggr_kwargs": {"q": 1}}, "do not apply to an instance"),
        ({"aggr": "power-mean", "aggr_kwargs": {"p": 0}}, "p=0 divides by zero"),
        (
            {"aggr": "power-mean", "aggr_kwargs": {"clamp_min": None, "clamp_max": None}},
            "give clamp_min, clamp_max or both",
        ),
        (
            {"aggr": "attentional", "aggr_kwargs": {"gate_nn": nn.Linear(5, 1)}},
            "does not accept messages of 2 channels",
        ),
        ({"aggr": "sort"}, "as aggr_kwargs={'k': ...}"),
        ({"aggr": torch.max}, "an aggregation is a name such as 'sum'.*make a subclass"),
        ({"aggr": None}, "an aggregation is a name such as 'sum'.*not None"),
        ({"aggr": ["sum", 3]}, "an aggregation is a name such as 'sum'.*not 3"),
        ({"aggr": WithoutPointers}, r"'ptr'; give it forward\(self, x, index=None, ptr=None"),
        ({"aggr": pyg.LSTMAggregation(8, 8)}, "give its name or class, which gets the channels"),
        ({"aggr": pyg.LSTMAggregation(2, 3)}, r"\(2, 3\) for 3 messages.*expected \(2, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        RelationalLinear(GRAPH, 8, 8, **arguments)


def test_powers_at_zero_are_refused_in_one_sentence():
    kwargs = {"p": 0.5, "clamp_min": None}
    with pytest.raises(InputError, match=r"the result of PowerMean.*clamp_min"):
        RelationalLinear(GRAPH, 8, 8, aggr="power-mean", aggr_kwargs=kwargs)
    kwargs = {"p": -1.0, "clamp_min": None}
    layer = RelationalLinear(GRAPH, 8, 8, aggr="power-mean", aggr_kwargs=kwargs)
    x = torch.ones(4, 8)
    x[:, :2] = 0  # node 0 sends zeros
    out = layer(x)
    with pytest.raises(InputError, match="the gradient of PowerMean"):
        out.sum().backward()


def test_products_that_overflow_are_refused_in_one_sentence():
    layer = RelationalLinear(GRAPH, 8, 8, aggr="mul")
    with pytest.raises(InputError, match="the result of MulAggregation"):
        layer(torch.full((2, 8), 1e30))


@pytest.mark.parametrize("aggr", ["softmax", "mul", "std", "median", "attentional", "multi"])
def test_padding_of_smaller_shares_does_not_leak(aggr):
    aggregation = make_aggregation(aggr, RelationalLinear(GRAPH, 7, 9).plan)
    index, generator = torch.tensor([0, 0, 1]), torch.Generator().manual_seed(0)
    messages = torch.randn(3, 2, 3, generator=generator)
    real = torch.tensor([[True, True, False]] * 2 + [[True] * 3])
    dirty = messages.clone()
    dirty[:2, :, 2] = torch.nan
    dirty.requires_grad_()
    out = aggregate_messages(aggregation, dirty, index, 2, real)
    clean = aggregate_messages(aggregation, messages, index, 2, real)
    torch.testing.assert_close(out, clean)
    out.square().sum().backward()
    assert torch.isfinite(dirty.grad).all()


@pytest.mark.scatter
@pytest.mark.skipif(
    importlib.util.find_spec("torch_scatter") is None, reason="torch-scatter is not installed"
)
@pytest.mark.parametrize("aggr", ["max", "min", "mean", "softmax"])
@pytest.mark.parametrize("space", [(), (3, 3)])
def test_sorted_segments_give_the_same_numbers(aggr, space, generator):
    plan = RelationalLinear(GRAPH, 8, 8).plan
    aggregation = aggregations.get(aggr)(plan, {})
    messages = torch.randn(plan.num_edges, 2, 3, *space, generator=generator, requires_grad=True)
    both = [
        aggregate_messages(aggregation, messages, plan.target, 4, segmented=segmented)
        for segmented in (True, False)
    ]
    torch.testing.assert_close(*both)
    grads = [torch.autograd.grad(out.square().sum(), messages)[0] for out in both]
    torch.testing.assert_close(*grads)


def test_a_round_that_is_drawn_after_to_empty_has_the_mean_degrees_of_a_new_one():
    layer = RelationalLinear("ring:4,2", 8, 8, aggr="degree-scaled")
    empty = RelationalLinear("ring:4,2", 8, 8, aggr="degree-scaled", device="meta")
    empty = empty.to_empty(device="cpu")
    for buffer in empty.aggr_module.buffers():
        buffer.fill_(-7.0)  # what an undefined number may be
    for each in (layer, empty):
        each.reset_parameters(torch.Generator().manual_seed(1))
    torch.testing.assert_close(empty.state_dict(), layer.state_dict(), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("aggr", ["max", "softmax", "median", "std"])
def test_an_aggregate_that_complex_messages_do_not_have_is_one_sentence(aggr):
    with pytest.raises(InputError, match=r"of complex messages is not defined .* aggr='sum'"):
        RelationalLinear(GRAPH, 8, 8, message="gated", aggr=aggr, dtype=torch.complex64)(
            torch.ones(2, 8, dtype=torch.complex64)
        )


@pytest.mark.parametrize("aggr", ["median", "quantile"])
def test_quantiles_are_compiled_whole(aggr, generator):
    layer = RelationalLinear(GRAPH, 8, 8, aggr=aggr, generator=generator)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 8, generator=generator)
    torch.testing.assert_close(compiled(x), layer(x))
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))
