"""A relationalized foreign model in a file, and back into the caller's module."""

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch_geometric.nn import MeanAggregation

import mpnn_arch
from mpnn_arch import InputError
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.rounds.messages import LinearMessage

KIND = "mpnn_arch relationalized model 1"


def build(width=32):
    return nn.Sequential(
        nn.Embedding(10, 16), nn.TransformerEncoderLayer(16, 4, width), nn.Linear(16, 10)
    )


@pytest.fixture
def saved(random_graph, complete_graph, tmp_path):
    rule = {"*.self_attn": random_graph(8, 0.3), "*linear?": complete_graph(4)}
    with torch.random.fork_rng():
        model = mpnn_arch.relationalize(build(), rule, skip=(), order="published").eval()
    path = tmp_path / "model.safetensors"
    mpnn_arch.save(model, path)
    return model, path


@pytest.mark.parametrize("into", [build, build()])
def test_there_and_back(saved, into):
    model, path = saved
    loaded = mpnn_arch.load(path, into=into).eval()
    tokens = torch.arange(10).reshape(5, 2)
    with torch.no_grad():
        assert torch.equal(loaded(tokens), model(tokens))
    names = model.relationalize_report.names("round")
    assert loaded.relationalize_report.names("round") == names
    assert loaded[1].self_attn.q_proj.graph == model[1].self_attn.q_proj.graph
    assert loaded[1].linear1.in_partition == model[1].linear1.in_partition
    if isinstance(into, nn.Module):
        assert type(into[1].linear1) is nn.Linear


def test_groups_there_and_back(random_graph, tmp_path):
    def make():
        return nn.Sequential(nn.Conv2d(24, 36, 3, groups=3), nn.Conv1d(36, 36, 3, groups=2))

    with torch.random.fork_rng():
        model = mpnn_arch.relationalize(make(), random_graph(5, 0.3), skip=(), order="published")
    assert model.relationalize_report.names("round") == ["0", "1"]
    mpnn_arch.save(model, tmp_path / "model.safetensors")
    loaded = mpnn_arch.load(tmp_path / "model.safetensors", into=make)
    for ours, theirs in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert loaded[0].graph == model[0].graph
    assert loaded[0].graph.num_nodes == 15


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (nn.Linear(16, 16), "Linear has no layer '1.linear1'"),
        (build(40), r"the model's is \(.*; give the module that was relationalized"),
        (nn.Sequential(*build(), nn.Linear(9, 9)), "it lacks weights: 3.bias and 1 more; give the"),
        (3, "into is a torch module or a function"),
        (lambda: 3, "into is a torch module or a function"),
        (nn.Linear, r"into=Linear is called without .* missing .*'in_features'.*lambda: Linear\("),
    ],
)
def test_another_module(saved, into, message):
    with pytest.raises(InputError, match=message):
        mpnn_arch.load(saved[1], into=into)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("layers", {"1.linear1": 7}, "has graph 7, and it holds 2"),
        ("layers", {"1.linear1": "os.system"}, "another type"),
        ("layers", {"__class__": 0}, "has no layer"),
        ("order", "no", "another type"),
        ("backend", "os", "backend"),
        ("factory", "os.system", "unknown entry 'factory'"),
    ],
)
def test_forged_files(saved, entry, value, message):
    _, path = saved
    tensors, metadata = read_tensors(path, kind=KIND)
    write_tensors(path, tensors, metadata | {entry: json.dumps(value)}, kind=KIND)
    with pytest.raises(InputError, match=message):
        mpnn_arch.load(path, into=build)


def test_an_error_of_the_function_is_its_own(saved):
    with pytest.raises(TypeError, match="out_features"):
        mpnn_arch.load(saved[1], into=lambda: nn.Linear(16))


def test_without_into_the_file_is_refused(saved):
    with pytest.raises(InputError, match=r"relationalized model.*relationalized as into="):
        mpnn_arch.load(saved[1])


class OwnRound(mpnn_arch.FusedRound):
    def update(self, inputs):
        return super().update(inputs).tanh()


class OwnMessage(LinearMessage):
    def forward(self, x_j, edges=None):
        return super().forward(x_j, edges).sin()


def layers():
    with torch.random.fork_rng():
        return nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 3))


def with_own_round(graph="ring:8,4"):
    return (
        layers()
        .append(OwnRound(graph, 3 * 8, 3 * 8, OwnMessage, "max"))
        .insert(3, nn.Linear(3, 24))
    )


def test_own_rounds_of_the_module_come_with_it(tmp_path, generator):
    model, path = mpnn_arch.relationalize(with_own_round(), "ring:8,4").eval(), tmp_path / "m"
    assert model.relationalize_report.own_rounds == ("4",)
    mpnn_arch.save(model, path)
    loaded = mpnn_arch.load(path, into=with_own_round).eval()
    x = torch.randn(5, 12, generator=generator)
    assert torch.equal(loaded(x), model(x))
    with pytest.raises(InputError, match="belong to a graph of 8 nodes"):
        mpnn_arch.load(path, into=with_own_round("ws_flex:8,4,0.5,1"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.__setitem__(1, OwnRound("ring:8,4", 16, 16)), "class is OwnRound"),
        (lambda m: setattr(m[1], "aggr_module", MeanAggregation()), "aggregation is Mean"),
        (lambda m: setattr(m[1], "activation", nn.SiLU()), r"activation is SiLU\(\)"),
        (lambda m: setattr(m[1], "residual", True), "residual is True"),
        (
            lambda m: setattr(m[1].message_function, "__class__", OwnMessage),
            "message is OwnMessage",
        ),
        (
            lambda m: prune.l1_unstructured(m[1].message_function, "weight", 0.5),
            "state has message_function.weight_mask",
        ),
    ],
)
def test_a_changed_round_is_refused(change, message, tmp_path):
    model = mpnn_arch.relationalize(layers(), "ring:8,4")
    change(model)
    with pytest.raises(InputError, match=rf"'1' was changed .* its {message}.*state_dict"):
        mpnn_arch.save(model, tmp_path / "m")


def test_rounds_of_an_earlier_call_cannot_be_saved(saved, complete_graph, tmp_path):
    again = mpnn_arch.relationalize(saved[0], complete_graph(2), skip=())
    with pytest.raises(InputError, match="call relationalize once"):
        mpnn_arch.save(again, tmp_path / "again")


class Versioned(nn.Module):
    """Reads weights of its second version alone, as torchvision's MNASNet does."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x):
        return self.layer(x)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get("version") != 2:
            raise ValueError(f"version should be 2, not {local_metadata.get('version')}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def test_layers_with_a_version_of_their_own_are_loaded(complete_graph, tmp_path):
    net = nn.Sequential(Versioned(), nn.Linear(16, 4))
    model = mpnn_arch.relationalize(net, complete_graph(4), skip=())
    mpnn_arch.save(model, tmp_path / "model.safetensors")
    loaded = mpnn_arch.load(tmp_path / "model.safetensors", into=net)
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x), model(x))
