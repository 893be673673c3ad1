"""``torch.compile(dynamic=True)`` compiles a network once, whatever the batch sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx

from mpnn_arch import RelationalLinear, graphs, models

GRAPH = graphs.parse_one("ws_flex:8,4,0.2,0")
NETWORKS = {
    "mlp": {"in_features": 20, "hidden_features": 16},
    "cnn1d": {"length": 24, "width_multiplier": 0.25},
    "cnn8": {"image_size": 16, "width_multiplier": 0.25},
}


class Counting:
    """A compiler that keeps the traced graphs and changes nothing."""

    def __init__(self) -> None:
        self.graphs: list[fx.GraphModule] = []

    def __call__(self, graph: fx.GraphModule, _: object) -> fx.GraphModule:
        self.graphs.append(graph)
        return graph


@pytest.mark.parametrize("name", NETWORKS)
def test_one_graph_for_every_batch_size(name, generator):
    options = NETWORKS[name] | {"num_classes": 3}
    network = models.build(name, GRAPH, **options).eval()
    shape = models.make_config(name, **options).input_shape
    compiler = Counting()
    compiled = torch.compile(network, fullgraph=True, dynamic=True, backend=compiler)
    eager = copy.deepcopy(network)
    for batch in (4, 2, 7, 3):
        x = torch.randn(batch, *shape, generator=generator)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-5)
    assert len(compiler.graphs) == 1


@pytest.mark.parametrize("name", models.list_models())
def test_every_model_is_exported_for_any_batch(name: str, generator: torch.Generator) -> None:
    size = {} if name == "mlp" else {"length": 40} if name == "cnn1d" else {"image_size": 32}
    model = models.build(name, "ring:4,2", width_multiplier=0.25, num_classes=3, **size).eval()
    shape = model.model_config.input_shape
    x = torch.randn(4, *shape, generator=generator)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    x = torch.randn(3, *shape, generator=generator)
    torch.testing.assert_close(program(x), model(x), rtol=1e-3, atol=1e-4)


def test_eager_calls_of_a_compiled_layer_compile_it_once_more(generator):
    """At the first `auto` selects a backend, which the program takes; later choices do nothing."""
    layer = RelationalLinear(GRAPH, 16, 16, generator=generator)
    compiler = Counting()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=compiler)
    for batch in (4, 2, 7, 33):
        x = torch.randn(batch, 16, generator=generator)
        torch.testing.assert_close(compiled(x), layer(x))
    assert len(layer.backend_choices) > 2
    assert len(compiler.graphs) == 2
    warm = copy.deepcopy(layer)
    compiled = torch.compile(warm, fullgraph=True, dynamic=True, backend=compiler)
    torch.testing.assert_close(compiled(x), layer(x))


def test_without_saying_so_there_are_two(generator):
    """The first size is taken as fixed; the second makes torch compile once for all."""
    network = models.build("mlp", GRAPH, **NETWORKS["mlp"]).eval()
    torch.compiler.reset()
    compiler = Counting()
    compiled = torch.compile(network, fullgraph=True, backend=compiler)
    for batch in (4, 2, 7, 3):
        x = torch.randn(batch, 20, generator=generator)
        torch.testing.assert_close(compiled(x), network(x))
    assert len(compiler.graphs) == 2
