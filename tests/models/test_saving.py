import json

import pytest
import torch
from safetensors import safe_open
from torch.nn.utils import prune
from torch_geometric.nn import Aggregation, MeanAggregation, SoftmaxAggregation

import mpnn_arch
from mpnn_arch import InputError, graphs, models
from mpnn_arch.rounds import message_functions
from mpnn_arch.rounds.aggregations import aggregations


@pytest.fixture
def graph():
    return graphs.ws_flex(16, 4, 0.2, seed=0)


def small_mlp(graph, **kwargs):
    return models.mlp(graph, in_features=12, hidden_features=32, num_classes=3, **kwargs)


@pytest.mark.parametrize("kind", ["one graph", "one per round", "directed", "dense"])
def test_a_model_is_restored(graph, kind, tmp_path, generator):
    ring = graphs.ring(16, 4)
    directed = mpnn_arch.RelationalGraph(16, ring.edges[:, ::3], directed=True)
    given = {
        "one graph": graph,
        "one per round": [graph, ring, graph],
        "directed": directed,
        "dense": None,
    }[kind]
    model = small_mlp(given, seed=torch.Generator().manual_seed(3)).train()
    x = torch.randn(8, 12, generator=generator)
    model(x)  # updates BatchNorm's running means
    path = tmp_path / "model.safetensors"
    mpnn_arch.save(model, path)

    loaded = mpnn_arch.load(path)

    assert loaded.graphs == model.graphs
    assert loaded.widths == model.widths
    state, loaded_state = model.state_dict(), loaded.state_dict()
    assert state.keys() == loaded_state.keys()
    assert all(torch.equal(state[name], loaded_state[name]) for name in state)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


def test_the_file_contains_configuration_and_graph(graph, tmp_path):
    mpnn_arch.save(small_mlp(graph), tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"])["model"] == "mlp"
    assert json.loads(metadata["graphs"])[0]["content_hash"] == graph.content_hash


def test_loading_leaves_the_global_random_state(graph, tmp_path):
    mpnn_arch.save(small_mlp(graph), tmp_path / "m.safetensors")
    before = torch.get_rng_state()
    mpnn_arch.load(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_another_backend_computes_the_same(graph, tmp_path, generator):
    model = small_mlp(graph).eval()
    mpnn_arch.save(model, tmp_path / "m.safetensors")
    reference = mpnn_arch.load(tmp_path / "m.safetensors", backend="reference").eval()
    x = torch.randn(4, 12, generator=generator)
    out = model(x)
    torch.testing.assert_close(reference(x), out)
    for part in model.rounds:
        part.weight.data.zero_()
    assert not torch.allclose(model(x), out, rtol=0.01)  # the rounds matter


def test_a_model_that_cannot_be_rebuilt_is_refused(tmp_path):
    with pytest.raises(InputError, match="a Linear has no configuration to rebuild it from"):
        mpnn_arch.save(torch.nn.Linear(2, 2), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_path_is_no_folder(graph):
    with pytest.raises(InputError, match="the path is empty"):
        mpnn_arch.save(small_mlp(graph), "")
    with pytest.raises(InputError, match="the path is empty"):
        mpnn_arch.load("")


def test_a_compiled_model_is_saved_as_the_model(graph, tmp_path, generator):
    model = small_mlp(graph, seed=torch.Generator().manual_seed(3)).eval()
    compiled, path = torch.compile(model, backend="eager"), tmp_path / "m.safetensors"
    x = torch.randn(4, 12, generator=generator)
    out = compiled(x)
    mpnn_arch.save(compiled, path)
    torch.testing.assert_close(mpnn_arch.load(path).eval()(x), out)


class Doubled(mpnn_arch.RelationalLinear):
    def forward(self, x, residual=None):
        return 2 * super().forward(x, residual)


CHANGES = {
    "a pruned weight": lambda model: prune.l1_unstructured(
        model.rounds[0].message_function, "weight", 0.5
    ),
    "a layer more": lambda model: model.add_module("more", torch.nn.Linear(2, 2)),
    "another head": lambda model: setattr(model, "head", torch.nn.Linear(64, 3)),
    "another AGG": lambda model: setattr(model.rounds[0], "aggr_module", MeanAggregation()),
    "another activation": lambda model: setattr(model.rounds[1], "activation", torch.nn.SiLU()),
    "a residual": lambda model: setattr(model.rounds[1], "residual", True),
    "another class": lambda model: setattr(model.rounds[1], "__class__", Doubled),
    "another activation before": lambda model: setattr(model.stem, "act", torch.nn.SiLU()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_would_be_rebuilt_as_another_is_refused(change, graph, tmp_path):
    model = small_mlp(graph)
    mpnn_arch.save(model, tmp_path / "kept.safetensors")
    kept = (tmp_path / "kept.safetensors").read_bytes()
    CHANGES[change](model)
    with pytest.raises(InputError, match=r"was changed after it was built.*state_dict"):
        mpnn_arch.save(model, tmp_path / "kept.safetensors")
    assert (tmp_path / "kept.safetensors").read_bytes() == kept


def set_on(path, name, value):
    return lambda model: setattr(model.get_submodule(path), name, value)


class Scaled(message_functions.get("gated")):
    """A message of the caller's with a setting of every kind."""

    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.factor, self.factors = 2.0, torch.ones(9, **self.factory)
        self.place, self.shape, self.act = torch.tensor([1.0]), [1, {"a": 2}], torch.tanh
        self._calls = 0

    def forward(self, x_j, edges):
        self._calls += 1
        return self.act(self.factor * super().forward(x_j, edges))


MESSAGE = "rounds.0.message_function"
SETTINGS = [
    ({"message": Scaled}, set_on(MESSAGE, "factor", 3.0), f"factor of {MESSAGE} is 3.0, .* 2.0"),
    ({"message": Scaled}, set_on(MESSAGE, "act", torch.sin), "act .* is sin, .* says tanh"),
    ({"message": Scaled}, set_on(MESSAGE, "place", torch.zeros(1)), r"is \[0.0\], .* \[1.0\]"),
    ({"message": Scaled}, set_on(MESSAGE, "factors", torch.ones(8)), r"\(8,\), .* \(9,\)"),
    ({"message": Scaled}, set_on(MESSAGE, "shape", [1, {"a": 3}]), "'a', 3.* says .*'a', 2"),
    ({}, set_on(MESSAGE, "forward", lambda x_j, edges: -x_j), "the forward of .* is .*lambda"),
    ({"aggr": "softmax"}, set_on("rounds.2.aggr_module", "t", 0.1), "t of .* is 0.1, .* says 1.0"),
    (
        {"aggr": ["max", SoftmaxAggregation(t=0.5)]},
        set_on("rounds.2.aggr_module.aggrs.1", "t", 0.1),
        "t of .* is 0.1, .* says 0.5",
    ),
    ({}, set_on("rounds.1.norm", "eps", 0.1), "eps of rounds.1.norm is 0.1, .* says 1e-05"),
]


@pytest.mark.parametrize(("built_with", "change", "message"), SETTINGS)
def test_changed_settings_of_a_part_are_refused(built_with, change, message, graph, tmp_path):
    model = small_mlp(graph, **built_with).double()
    model(torch.zeros(4, 12).double())  # counts its calls, which is no setting
    mpnn_arch.save(model, tmp_path / "m.safetensors")
    change(model)
    with pytest.raises(InputError, match=rf"was changed after it was built.*{message}.*state_dict"):
        mpnn_arch.save(model, tmp_path / "m.safetensors")


def test_a_loss_kept_on_the_model_is_no_change(graph, tmp_path):
    model = small_mlp(graph)
    model.criterion = torch.nn.CrossEntropyLoss()
    mpnn_arch.save(model, tmp_path / "m.safetensors")


def gated():
    """A class of the caller's with the name and the weights of one that is here."""

    class GatedMessage(message_functions.get("gated")):
        def forward(self, x_j, edges=None):
            return -super().forward(x_j, edges)

    return GatedMessage


def own_softmax():
    class SoftmaxAggregation(Aggregation):
        def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
            return 3 * self.reduce(x, index, ptr, dim_size, dim, reduce="max")

    return SoftmaxAggregation


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("message", gated(), r"its message function is a class of your own, 'GatedMessage'.*mess"),
        ("aggr", own_softmax(), r"instance of your own, 'SoftmaxAggregation'.*load\(path, aggr="),
        ("aggr", own_softmax()(), r"instance of your own, 'SoftmaxAggregation'.*load\(path, aggr="),
        ("aggr", SoftmaxAggregation(t=0.1), r"instance of your own, 'SoftmaxAggregation'"),
        ("aggr", ["max", SoftmaxAggregation(t=0.1)], "of your own, 'max and SoftmaxAggregation'"),
    ],
)
def test_objects_are_not_taken_for_what_has_their_name(
    setting, value, message, graph, tmp_path, generator
):
    model, path = small_mlp(graph, **{setting: value}).eval(), tmp_path / "m.safetensors"
    mpnn_arch.save(model, path)
    with pytest.raises(InputError, match=message):
        mpnn_arch.load(path)
    x = torch.randn(4, 12, generator=generator)
    assert torch.equal(mpnn_arch.load(path, **{setting: value}).eval()(x), model(x))
    model.rounds[0].activation = torch.nn.SiLU()
    with pytest.raises(InputError, match="was changed after it was built"):
        mpnn_arch.save(model, path)


@pytest.mark.parametrize("aggr", [SoftmaxAggregation, SoftmaxAggregation(), MeanAggregation()])
def test_aggregations_that_their_name_gives_back_are_loaded_by_it(aggr, graph, tmp_path):
    mpnn_arch.save(small_mlp(graph, aggr=aggr), tmp_path / "m.safetensors")
    loaded = mpnn_arch.load(tmp_path / "m.safetensors")
    expected = aggr if isinstance(aggr, type) else type(aggr)
    assert type(loaded.rounds[0].aggr_module) is expected


@pytest.mark.parametrize("setting", ["message", "aggr"])
def test_a_name_that_is_not_registered_where_it_is_loaded(
    setting, graph, tmp_path, monkeypatch, generator
):
    registry = {"message": message_functions, "aggr": aggregations}[setting]
    own = registry.get({"message": "gated", "aggr": "max"}[setting])
    monkeypatch.setitem(registry._entries, "own", own)
    model, path = small_mlp(graph, **{setting: "own"}).eval(), tmp_path / "m.safetensors"
    mpnn_arch.save(model, path)
    x = torch.randn(4, 12, generator=generator)
    assert torch.equal(mpnn_arch.load(path).eval()(x), model(x))
    monkeypatch.delitem(registry._entries, "own")
    with pytest.raises(InputError, match=rf"'own'.*registered here; register.*{setting}=\.\.\."):
        mpnn_arch.load(path)


def test_a_change_that_does_not_fit_is_the_callers(graph, tmp_path):
    mpnn_arch.save(small_mlp(graph), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="leave out message"):
        mpnn_arch.load(tmp_path / "m.safetensors", message="gated")


def test_a_built_model_needs_no_module(graph, tmp_path):
    model = small_mlp(graph)
    mpnn_arch.save(model, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="leave out into="):
        mpnn_arch.load(tmp_path / "m.safetensors", into=model)


def test_parts_that_have_no_name_are_given_again(graph, tmp_path, generator):
    aggr = SoftmaxAggregation(learn=True)
    model = small_mlp(graph, aggr=aggr).eval()
    mpnn_arch.save(model, tmp_path / "m.safetensors")
    loaded = mpnn_arch.load(tmp_path / "m.safetensors", aggr=aggr).eval()
    x = torch.randn(4, 12, generator=generator)
    torch.testing.assert_close(loaded(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_keeps_its_dtype(dtype, graph, tmp_path, generator):
    model = small_mlp(graph, seed=torch.Generator().manual_seed(3)).to(dtype).eval()
    mpnn_arch.save(model, tmp_path / "m.safetensors")
    loaded = mpnn_arch.load(tmp_path / "m.safetensors").eval()
    x = torch.randn(4, 12, generator=generator).to(dtype)
    assert loaded(x).dtype == dtype
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
        assert loaded.state_dict()[name].dtype == value.dtype, name


def test_a_truncated_model_is_refused(graph, tmp_path):
    path = tmp_path / "m.safetensors"
    mpnn_arch.save(small_mlp(graph), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short"):
        mpnn_arch.load(path)
