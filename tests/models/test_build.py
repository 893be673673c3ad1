"""Every registered model: its configuration, its weights, its graphs, and bad input."""

import json

import pytest
import torch

from mpnn_arch import InputError, models
from mpnn_arch.rounds import MessageRound

# A quarter of the width, small images, graphs of 4 nodes: every model runs quickly.
SMALL = {
    "width_multiplier": 0.25,
    "image_size": 28,
    "in_channels": 1,
    "num_classes": 10,
}


def rounds_of(model):
    return [module for module in model.modules() if isinstance(module, MessageRound)]


def rebuilt(model, **changes):
    config = {**json.loads(json.dumps(model.config)), **changes}
    return models.build(config.pop("model"), model.graphs or None, **config)


@pytest.mark.parametrize("name", models.list_models())
@pytest.mark.parametrize("dense", [True, False])
def test_model_trains_a_step_and_is_rebuilt_from_its_configuration(name, dense, random_graph):
    graph = None if dense else random_graph(4, 0.4)
    model = models.build(name, graph, seed=3, backend="masked", **SMALL)
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    out = model(x)
    assert out.shape == (2, 10)
    out.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert bool(rounds_of(model)) != dense

    again = rebuilt(model)
    assert again.config == model.config
    assert again.widths == model.widths
    fresh = models.build(name, graph, seed=3, backend="reference", **SMALL).state_dict()
    for key, value in again.state_dict().items():
        assert torch.equal(value, fresh[key]), key


@pytest.mark.parametrize("name", [n for n in models.list_models() if n != "efficientnet_b0"])
def test_complete_graph_is_the_dense_model(name, complete_graph):
    # Drawn by the fan-in: a residual block of the published initialisation is the identity.
    made = {"seed": 1, "init": "kaiming", **SMALL}
    dense = models.build(name, **made).double()
    same = models.build(name, complete_graph(4), backend="masked", **made).double()
    assert same.widths == dense.widths
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double()
    out = same(x)
    torch.testing.assert_close(out, dense(x))
    for part in rounds_of(same):
        part.weight.data.zero_()
    assert not torch.allclose(same(x), out, rtol=0.01)  # the rounds matter


def test_building_leaves_the_global_random_state_alone(random_graph):
    before = torch.random.get_rng_state()
    models.build("resnet20", random_graph(16, 0.3), seed=0)
    models.build("cnn8")
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_seed_or_its_generator_gives_the_same_bits(random_graph):
    graph = random_graph(16, 0.3)
    by_number = models.mlp(graph, in_features=20, hidden_features=32, seed=5)
    generator = torch.Generator().manual_seed(5)
    by_generator = models.mlp(graph, in_features=20, hidden_features=32, seed=generator)
    other = models.mlp(graph, in_features=20, hidden_features=32, seed=6)
    for key, value in by_number.state_dict().items():
        assert torch.equal(value, by_generator.state_dict()[key])
    assert not torch.equal(by_number.head.weight, other.head.weight)


def test_mlp_is_the_papers():
    model = models.mlp()
    assert model.config["in_features"] == 3072
    assert [tuple(p.shape) for n, p in model.named_parameters() if n.endswith("layer.weight")] == [
        (512, 3072),
        (512, 512),
        (512, 512),
        (512, 512),
    ]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_one_graph_per_stage_or_per_round(random_graph):
    graphs = [random_graph(16, 0.3, seed) for seed in range(18)]
    per_stage = models.build("resnet20", graphs[:3])
    assert [r.graph for r in rounds_of(per_stage.stages[1])] == [graphs[1]] * 7
    per_round = models.build("resnet20", graphs)
    assert [r.graph for r in rounds_of(per_round.stages[0][1])] == graphs[2:4]
    # The shortcut at a stage's start shares the graph of its block's first round.
    first = per_round.stages[1][0]
    assert first.shortcut.graph == first.transform.a.graph == graphs[6]
    assert per_round.graphs == graphs
    assert rebuilt(per_round).graphs == graphs
    with pytest.raises(InputError, match=r"one per stage \(3\) or one per round \(18\); 5 were"):
        models.build("resnet20", graphs[:5])


def test_graphs_of_different_size_can_follow_one_another(random_graph):
    graphs = [random_graph(16, 0.3), random_graph(11, 0.5), random_graph(30, 0.2)]
    model = models.build("resnet20", graphs, backend="masked")
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_shortcut_is_an_option(random_graph):
    graph = random_graph(16, 0.3)
    published = models.build("resnet20", graph)
    assert isinstance(published.stages[1][0].shortcut, MessageRound)
    dense = models.build("resnet20", graph, shortcut="dense")
    assert isinstance(dense.stages[1][0].shortcut.layer, torch.nn.Conv2d)
    assert models.make_config("resnet34").shortcut == "relational"
    assert models.make_config("resnet34_sep").shortcut == "relational"
    assert models.make_config("resnet50").shortcut == "dense"


def test_message_and_aggregation_reach_the_rounds(random_graph):
    graph = random_graph(4, 0.5)
    model = models.build("cnn8", graph, aggr="max", **SMALL)
    assert {r.aggr for r in rounds_of(model)} == {"max"}
    assert all(r.passes_messages for r in rounds_of(model))
    assert rebuilt(model).config == model.config
    with pytest.raises(InputError, match="no message function 'shout'"):
        models.build("cnn8", graph, message="shout", **SMALL)


def test_backend_reaches_the_rounds(random_graph):
    model = models.build("cnn8", random_graph(4, 0.5), backend="reference", **SMALL)
    assert all(r.passes_messages for r in rounds_of(model))


def test_order_of_larger_shares_reaches_the_rounds(random_graph):
    graph = random_graph(10, 0.5)
    for order in ("first", "published"):
        model = models.mlp(graph, in_features=8, hidden_features=32, order=order)
        assert {r.in_partition.order for r in rounds_of(model)} == {order}


class TestBadInput:
    def test_narrow_stage_is_named_with_both_numbers(self, random_graph):
        with pytest.raises(InputError, match=r"stage 1 .*resnet20 has 16 channels.*20 nodes"):
            models.build("resnet20", random_graph(20, 0.3), widths=(16, 32, 64))

    def test_narrow_stem_is_named(self, random_graph):
        with pytest.raises(InputError, match=r"stage 1 input of resnet20 has 16 .* 20 nodes"):
            models.build("resnet20", random_graph(20, 0.3))

    def test_narrow_input_of_the_first_round(self, random_graph):
        with pytest.raises(InputError, match=r"mlp has 64 channels.* 100 nodes"):
            models.mlp(random_graph(100, 0.1), hidden_features=64)

    @pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "cnn8"])
    def test_image_too_small(self, name):
        with pytest.raises(InputError, match=f"too small for {name}: at stage"):
            models.build(name, image_size=4)

    def test_unknown_model_lists_the_choices(self):
        with pytest.raises(InputError, match=r"'resnet43'.*did you mean 'resnet34'.*mlp"):
            models.build("resnet43")

    def test_unknown_setting_lists_the_choices(self):
        with pytest.raises(InputError, match=r"mlp has no setting 'shortcut'.*hidden_features"):
            models.build("mlp", shortcut="dense")

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"num_classes": 0}, "num_classes is an integer of at least 1, not 0"),
            ({"image_size": 2.5}, "image_size is an integer"),
            ({"width_multiplier": 0}, "width_multiplier is above 0"),
            ({"shortcut": "none"}, "no shortcut 'none'; choose one of relational, dense"),
            ({"init": "xavier"}, "no init 'xavier'; choose one of published, kaiming"),
            ({"seed": -1}, "a seed is an integer"),
            ({"widths": (16, 32)}, "resnet20 has 3 stage widths"),
            ({"reference": 1000}, "a reference is met by a model on a graph"),
        ],
    )
    def test_settings(self, settings, sentence):
        with pytest.raises(InputError, match=sentence):
            models.build("resnet20", **settings)

    def test_not_a_graph(self):
        with pytest.raises(InputError, match="not 64"):
            models.build("mlp", 64)
