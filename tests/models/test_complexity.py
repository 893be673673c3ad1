"""Costs: the golden figures, the formula against the built model, torch's own counter."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.nn import aggr as pyg

from mpnn_arch import InputError, RelationalLinear, graphs, models

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())


@pytest.mark.parametrize(
    "golden", GOLDEN, ids=lambda g: "-".join([g["model"], *map(str, g["settings"].values())])
)
def test_golden_figures(golden):
    graph = graphs.parse_one(golden["graph"]) if golden["graph"] else None
    model = models.build(golden["model"], graph, device="meta", **golden["settings"])
    costs = models.complexity(model)
    assert list(model.widths) == golden["widths"]
    assert costs.multiply_adds == golden["multiply_adds"]
    assert costs.parameters == golden["parameters"]


def test_golden_file_covers_every_model_dense_and_on_its_graph():
    for dense in (True, False):
        covered = {g["model"] for g in GOLDEN if (g["graph"] is None) == dense}
        assert covered == set(models.list_models())


VARIANTS = [
    {},
    {"image_size": 28, "in_channels": 1, "num_classes": 10},
    {"image_size": 32, "width_multiplier": 1.5},
]


@pytest.mark.parametrize("name", models.list_models())
@pytest.mark.parametrize("settings", VARIANTS, ids=["default", "28", "32"])
def test_formula_is_the_built_models_cost(name, settings, random_graph):
    """`ModelConfig.count` agrees with `ModelConfig.make`."""
    for graph in (None, random_graph(13, 0.3)):
        model = models.build(name, graph, device="meta", **settings)
        costs = models.complexity(model)
        by_formula = model.model_config.multiply_adds(model.widths, model.graphs)
        assert costs.multiply_adds == by_formula
        assert costs.parameters == sum(p.numel() for p in model.parameters())
        assert sum(s.multiply_adds for s in costs.by_stage().values()) == costs.multiply_adds


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "rounds"])
@pytest.mark.parametrize("name", models.list_models())
def test_agrees_with_torchs_counter(name, dense):
    """Torch counts two per multiply-add, and no bias; we count those of squeeze-excitation."""
    graph = None if dense else models.make_config(name).default_graph
    model = models.build(name, graph, device="meta", backend="gather").eval()
    x = torch.empty(1, *model.model_config.input_shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    biases = sum(
        module.bias.numel()
        for path, module in model.named_modules()
        if ".gate." in path and getattr(module, "bias", None) is not None
    )
    assert (biases > 0) == (name == "efficientnet_b0")
    costs = models.complexity(model).multiply_adds
    assert counter.get_total_flops() == 2 * (costs - biases)


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "efficientnet_b0"])
def test_agrees_with_torchvision(name):
    """The three architectures have exactly the parameters of torchvision's.

    Only we count the biases of squeeze-excitation, so EfficientNet's multiply-adds differ by them.
    """
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    ours = models.complexity(models.build(name, device="meta"))
    costs = models.complexity(theirs, 224)
    assert ours.parameters == costs.parameters == sum(p.numel() for p in theirs.parameters())
    gates = sum(
        layer.out_channels for layer in ours.layers if ".gate." in layer.name and layer.out_channels
    )
    assert ours.multiply_adds == costs.multiply_adds + gates


def test_counts_attention_of_any_module():
    with torch.device("meta"):
        theirs = torchvision.models.vit_b_16()
    costs = models.complexity(theirs, 224)
    assert costs.parameters == 86_567_656  # torchvision's own figure for this model
    tokens, width = 197, 768
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    assert costs.multiply_adds == 12 * block + 196 * width * 16 * 16 * 3 + width * 1000


def test_rows_describe_the_layers_and_the_model_is_unchanged(random_graph):
    graph = random_graph(8, 0.4)
    layer = RelationalLinear(graph, 20, 30, backend="masked")
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(30, 5))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    costs = models.complexity(model, (20,))
    first, last = costs.layers
    assert (first.name, first.kind, first.is_round) == ("0", "RelationalLinear", True)
    assert first.multiply_adds == model[0].weight.numel()
    assert first.complete_multiply_adds == 600
    assert first.parameters == model[0].weight.numel() + 30
    assert (last.output_shape, last.multiply_adds, last.parameters) == ((5,), 150, 155)
    assert costs.relational_share == first.multiply_adds / costs.multiply_adds
    assert str(costs).splitlines()[-1].split() == [
        "total",
        f"{costs.parameters:,}",
        f"{costs.multiply_adds:,}",
    ]
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert model(torch.zeros(2, 20)).shape == (2, 5)


@pytest.mark.parametrize("aggr", ["attentional", pyg.LSTMAggregation(4, 4)])
def test_the_products_of_an_aggregation_count_once_at_any_depth(random_graph, aggr):
    layer = RelationalLinear(random_graph(8, 0.4), 16, 32, aggr=aggr)
    nested = nn.Sequential(nn.Sequential(layer, nn.ReLU()), nn.Linear(32, 5))
    assert models.complexity(nested, (16,)).multiply_adds == layer.multiply_adds() + 32 * 5


def test_an_aggregation_that_computes_gradients_is_counted(random_graph):
    graph = random_graph(8, 0.4)
    steps = [
        RelationalLinear(graph, 16, 32, aggr=pyg.EquilibriumAggregation(4, 4, [3], grad_iter=n))
        for n in (1, 2, 3)
    ]
    one, two, three = (models.complexity(layer, (16,)).multiply_adds for layer in steps)
    assert steps[0].weight.numel() < one < two
    assert three - two == two - one


def test_positions_of_a_sequence_are_counted(random_graph):
    layer = RelationalLinear(random_graph(8, 0.4), 20, 30, bias=False)
    assert models.complexity(layer, (7, 20)).multiply_adds == 7 * layer.weight.numel()


def test_input_size_in_every_form():
    cnn = models.build("cnn8", image_size=32, in_channels=1, device="meta")
    assert {models.complexity(cnn, s).multiply_adds for s in (32, (32, 32), (1, 32, 32), None)} == {
        cnn.model_config.multiply_adds()
    }
    mlp = models.mlp(in_features=784, device="meta")
    assert {models.complexity(mlp, s).multiply_adds for s in (784, (784,), (1, 28, 28), None)} == {
        mlp.model_config.multiply_adds()
    }


@pytest.mark.parametrize("first", [nn.Linear(16, 24), RelationalLinear("ring:8,2", 16, 24)])
def test_a_number_is_the_features_of_a_model_that_starts_with_a_linear_layer(first):
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(24, 5))
    expected = sum(part.weight.numel() for part in (first, model[2]))
    assert models.complexity(model, 16).multiply_adds == expected
    maps = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(5, 4))
    assert models.complexity(maps, 7).layers[-1].output_shape == (8, 5, 4)


def test_bad_input_size():
    with pytest.raises(InputError, match="give it, as input_size="):
        models.complexity(nn.Linear(3, 4))
    with pytest.raises(InputError, match=r"Linear cannot take an input of shape \(5,\)"):
        models.complexity(nn.Linear(3, 4), (5,))
