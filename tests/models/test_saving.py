import json

import pytest
import torch
from safetensors import safe_open

import mpnn_arch
from mpnn_arch import InputError, graphs, models


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


def test_a_truncated_model_is_refused(graph, tmp_path):
    path = tmp_path / "m.safetensors"
    mpnn_arch.save(small_mlp(graph), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short"):
        mpnn_arch.load(path)
