"""Torch's default device: where layers are made, and what must not be drawn there.

The meta device stands for an accelerator: no value survives on it.
"""

import pytest
import torch
from torch import nn

import mpnn_arch
from mpnn_arch import GraphRound, RelationalConv2d, RelationalLinear, graphs, models
from mpnn_arch.rounds.aggregations import aggregations
from mpnn_arch.rounds.gnn import GAT, GCN, SAGE, Graph
from mpnn_arch.rounds.messages import message_functions

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
EDGES = torch.tensor([[0, 1, 2, 4], [1, 2, 0, 3]])
UPDATE = {"norm": "batch", "squeeze_excitation": 2, "residual": True}


def linear(**arguments):
    return lambda **place: RelationalLinear(GRAPH, 16, 16, **arguments, **place)


def conv(message):
    return lambda **place: RelationalConv2d(GRAPH, 16, 24, 3, message=message, **place)


LAYERS = {
    **{f"aggr {name}": (linear(aggr=name), (5, 16)) for name in aggregations},
    **{
        f"message {name}": (conv(name), (2, 16, 5, 5))
        if message_functions.get(name).vectors_instead
        else (linear(message=name), (5, 16))
        for name in message_functions
    },
    "an update": (linear(**UPDATE), (5, 16)),
    "a group norm": (linear(norm="group"), (5, 16)),
    "a list of aggregations": (linear(aggr=["mean", "max"]), (5, 16)),
    **{
        kind.__name__: (lambda kind=kind, **place: kind(16, 16, **place), (5, 16))
        for kind in (GraphRound, GCN, SAGE, Graph)
    },
    "GAT": (lambda **place: GAT(16, 16, heads=2, residual=True, edge_dim=3, **place), (5, 16)),
}


def tensors(layer):
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}


@pytest.mark.parametrize("name", LAYERS)
def test_a_device_that_is_given_counts(name, generator):
    make, shape = LAYERS[name]
    x = torch.randn(shape, generator=generator)
    there = make(device="cpu", generator=torch.Generator().manual_seed(1))
    edges = (EDGES,) if there.graph is None else ()
    with torch.device("meta"):
        here = make(device="cpu", generator=torch.Generator().manual_seed(1))
        out = here(x, *edges)
        here.reset_parameters(torch.Generator().manual_seed(1))
    assert tensors(here).keys() == tensors(there).keys()
    for key, value in tensors(there).items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(tensors(here)[key], value), key
    torch.testing.assert_close(out, there(x, *edges))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_made_on_the_default_device(name):
    with torch.device("meta"):
        layer = LAYERS[name][0]()
    assert {tensor.device.type for tensor in tensors(layer).values()} == {"meta"}


@pytest.mark.parametrize("aggr", ["sum", "mean", "max", ["sum", "std"]])
def test_a_layer_on_meta_gives_the_shapes_of_results(aggr):
    shapes = {"device": "meta", "aggr": aggr, "activation": "relu"}
    layer = RelationalLinear("ring:4,2", 8, 12, **shapes)
    x = torch.empty(3, 8, device="meta", requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert (out.device.type, out.shape[0], out.shape[1] % 12) == ("meta", 3, 0)
    assert x.grad.shape == x.shape
    conv = RelationalConv2d("ring:4,2", 8, 12, 3, padding=1, **shapes)
    assert conv(torch.empty(3, 8, 5, 4, device="meta")).shape[2:] == (5, 4)


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_redrawn_as_they_were_drawn(name):
    make, _ = LAYERS[name]
    made = make(generator=torch.Generator().manual_seed(1))
    layer = make(device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(torch.nan)
    for module in layer.modules():
        if module is not layer and hasattr(module, "reset_parameters"):
            module.reset_parameters()
    layer.reset_parameters(torch.Generator().manual_seed(1))
    for key, value in made.named_parameters():
        assert torch.equal(layer.get_parameter(key), value), key


def test_a_model_is_built_and_loaded_on_the_default_device(tmp_path):
    build = models.build("mlp", "ring:8,4", in_features=16, hidden_features=16)
    mpnn_arch.save(build, tmp_path / "model.safetensors")
    with torch.device("meta"):
        made = models.build("mlp", "ring:8,4", in_features=16, hidden_features=16)
        same = models.build("mlp", "ring:8,4", in_features=16, hidden_features=16, device="cpu")
        read = mpnn_arch.load(tmp_path / "model.safetensors", device="cpu")
        loaded = mpnn_arch.load(tmp_path / "model.safetensors")
    for model in (made, loaded):
        assert {tensor.device.type for tensor in tensors(model).values()} == {"meta"}
    for key, value in tensors(build).items():
        assert torch.equal(tensors(same)[key], value), key
        assert torch.equal(tensors(read)[key], value), key


def test_a_network_is_relationalized_where_it_is():
    network = nn.Sequential(*[nn.Linear(16, 16) for _ in range(3)])
    with torch.device("meta"):
        changed = mpnn_arch.relationalize(network, "ring:8,4")
        dense = mpnn_arch.to_dense(changed)
    x = torch.ones(2, 16)
    torch.testing.assert_close(changed(x), dense(x))
