"""Rounds, networks and trainings on a GPU by CUDA or MPS, of which there is a stand-in."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mpnn_arch import (
    GraphRound,
    InputError,
    MessageRound,
    RelationalConv2d,
    RelationalLinear,
    graphs,
    load,
    models,
    relationalize,
    save,
    to_dense,
)
from mpnn_arch.analysis.graph_of_weights import learned_graph
from mpnn_arch.diagnostics.agreement import compare_backends
from mpnn_arch.rounds import gnn, message_functions
from mpnn_arch.rounds.aggregations import aggregations
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset
from mpnn_arch.training.population import Population
from mpnn_arch.widget import RoundWidget

GRAPH = graphs.ring(8, 4)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).abs()


def use(device: torch.device, module: nn.Module, *inputs: Tensor) -> None:
    """Forward, backward, evaluation, initialisation, loading; forward once more on the CPU."""
    module.to(device)
    given = [x.to(device) for x in inputs]
    out = module(*given)
    assert out.device == device
    out.square().sum().backward()
    assert {parameter.device for parameter in module.parameters()} <= {device}
    module.eval()
    copy.deepcopy(module)(*given)
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
    module.load_state_dict(module.state_dict())
    assert module.cpu()(*inputs).device.type == "cpu"


def test_the_stand_in_refuses_what_a_gpu_refuses(gpu):
    x = torch.ones(3, device=gpu)
    assert (x + 1).device == x[:2].device == torch.ones_like(x).device == x.half().device == gpu
    assert x.is_cuda == (gpu.type == "cuda")
    assert x.cpu().device.type == "cpu"
    with pytest.raises(RuntimeError, match="two devices"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="two devices"):
        nn.Linear(3, 3).to(gpu)(torch.ones(2, 3))
    if gpu.type == "mps":
        with pytest.raises(TypeError, match="float64"):
            x.double()


@pytest.mark.parametrize("aggr", [*aggregations])
def test_every_aggregation(gpu, aggr):
    use(gpu, MessageRound(GRAPH, 24, 24, aggr=aggr, norm="batch"), draw(3, 24))
    if aggr == "degree-scaled":
        return  # the degrees of the data are not known
    use(gpu, GraphRound(6, 6, aggr=aggr, activation="relu"), draw(8, 6), GRAPH.edge_index)


MESSAGES = {name: message_functions.get(name) for name in message_functions}
OVER_VECTORS = [name for name, kind in MESSAGES.items() if not kind.vectors_instead]
OVER_MAPS = [name for name, kind in MESSAGES.items() if not kind.maps_instead]


@pytest.mark.parametrize("message", OVER_VECTORS)
def test_every_message_over_vectors(gpu, message):
    layer = MessageRound(GRAPH, 24, 24, message, squeeze_excitation=2, norm="layer")
    use(gpu, layer, draw(3, 24))


@pytest.mark.parametrize("message", OVER_MAPS)
def test_every_message_over_maps(gpu, message):
    size = {"kernel_size": (3, 3), "padding": (1, 1)}
    layer = MessageRound(
        GRAPH, 24, 24, message, squeeze_excitation=2, norm="layer", message_kwargs=size
    )
    use(gpu, layer, draw(3, 24, 4, 4))


@pytest.mark.parametrize("backend", ["auto", "reference", "masked", "gather"])
def test_every_backend(gpu, backend):
    shared = {"backend": backend, "norm": "batch", "activation": "relu", "device": gpu}
    use(gpu, RelationalLinear(GRAPH, 21, 24, **shared), draw(3, 2, 21).flatten(0, 1))
    use(gpu, RelationalConv2d(GRAPH, 21, 24, 3, stride=2, **shared), draw(3, 21, 5, 5))


@pytest.mark.parametrize("kind", [gnn.GCN, gnn.SAGE, gnn.Graph, gnn.GAT])
def test_every_gnn(gpu, kind):
    use(gpu, kind(6, 5), draw(8, 6), GRAPH.edge_index)


@pytest.mark.parametrize("name", ["mlp", "cnn8", "resnet20", "mlp_mixer", "vit"])
def test_networks(stand_in, no_trials, name):
    sizes = {"width_multiplier": 0.5, "image_size": 16} if name != "mlp" else {"in_features": 9}
    network = models.build(name, GRAPH, **sizes)
    with stand_in() as device:
        use(device, network, draw(2, 9) if name == "mlp" else draw(2, 3, 16, 16))
        assert next(to_dense(network.to(device)).parameters()).device == device


def test_backends_agree(gpu):
    found = compare_backends(GRAPH, 21, 24, device=gpu, dtype=torch.float32)
    agreed = {agreement.name for agreement in found if agreement.differences}
    assert {"masked", "gather", "nn.Linear"} <= agreed
    assert all(a.largest < 1e-5 for a in found if a.differences)


def test_trainings(gpu):
    data = load_dataset("digits").subset(100, 20)
    recipe = TrainingConfig(epochs=1, batch_size=32)

    def build():
        torch.manual_seed(0)
        return models.build("mlp", GRAPH, in_features=64, hidden_features=32)

    def generator():
        return torch.Generator().manual_seed(0)

    one = Trainer(build(), data, recipe, generator=generator(), device=gpu)
    assert one.train_epoch().train_loss > 0
    assert next(one.model.parameters()).device == gpu
    two = Population([build(), build()], data, recipe, generator=generator(), device=gpu)
    assert all(epoch.train_loss > 0 for epoch in two.train_epoch().values())


@pytest.mark.parametrize("init", ["published", "kaiming"])
def test_initialisation(stand_in, init):
    network = models.build("resnet20", GRAPH, width_multiplier=0.5, image_size=8)
    like = copy.deepcopy(network)
    models.initialise(like, init, torch.Generator().manual_seed(0))
    with stand_in() as device:
        models.initialise(network.to(device), init, torch.Generator().manual_seed(0))
        network.cpu()
    torch.testing.assert_close(network.state_dict(), like.state_dict(), rtol=0, atol=0)


def test_what_is_made_of_networks(gpu, tmp_path):
    dense = nn.Sequential(nn.Linear(9, 32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8)).to(gpu)
    use(gpu, relationalize(dense, GRAPH), draw(2, 9))
    network = models.build("mlp", GRAPH, in_features=9, hidden_features=32).to(gpu)
    save(network, tmp_path / "network.safetensors")
    loaded = load(tmp_path / "network.safetensors").to(gpu)
    assert {parameter.device for parameter in loaded.parameters()} == {gpu}
    shown = RoundWidget(RelationalLinear(GRAPH, 8, 8, aggr="max").to(gpu), draw(2, 8).to(gpu))
    shown.export_html(tmp_path / "round.html")
    assert learned_graph(dense, 8).graph.num_nodes == 8


def test_replaced_parts(gpu):
    layer = RelationalLinear(GRAPH, 24, 24, activation="relu").to(gpu)
    for aggr in ("max", "median", "attentional"):
        layer.aggr = aggr
        layer.norm = nn.BatchNorm1d(24)
        use(gpu, layer, draw(3, 24))
        layer.to(gpu)


class GeneratorOfAGPU(torch.Generator):
    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


@pytest.mark.parametrize(
    "draw_from",
    [
        lambda generator: RelationalLinear(GRAPH, 8, 8, generator=generator),
        lambda generator: MessageRound(GRAPH, 8, 8).reset_parameters(generator),
        lambda generator: gnn.GAT(4, 4, generator=generator),
        lambda generator: models.build("mlp", GRAPH, in_features=9, seed=generator),
        lambda generator: models.initialise(nn.Linear(2, 2), "kaiming", generator),
        lambda generator: Trainer(
            nn.Linear(64, 10), load_dataset("digits"), TrainingConfig(), generator=generator
        ),
    ],
)
def test_a_generator_of_a_gpu_is_refused_where_it_enters(draw_from):
    with pytest.raises(InputError, match=r"the generator is on cuda:0, .*give torch.Generator\(\)"):
        draw_from(GeneratorOfAGPU())
