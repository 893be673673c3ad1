"""Rounds, networks and trainings on a CUDA device, of which there is a stand-in."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mpnn_arch import (
    GraphRound,
    MessageRound,
    RelationalConv2d,
    RelationalLinear,
    graphs,
    models,
    to_dense,
)
from mpnn_arch.diagnostics.agreement import compare_backends
from mpnn_arch.rounds import gnn, message_functions
from mpnn_arch.rounds.aggregations import aggregations
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset
from mpnn_arch.training.population import Population

GPU = torch.device("cuda", 0)
GRAPH = graphs.ring(8, 4)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).abs().to("cuda")


def use(module: nn.Module, *inputs: Tensor) -> None:
    """Forward, backward, evaluation, initialisation, and all of it again back on the CPU."""
    out = module(*inputs)
    assert out.device == GPU
    out.square().sum().backward()
    assert {parameter.device for parameter in module.parameters()} <= {GPU}
    module.eval()
    copy.deepcopy(module)(*inputs)
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
    module.load_state_dict(module.state_dict())
    assert not module.cpu()(*[given.cpu() for given in inputs]).is_cuda


def test_the_stand_in_refuses_what_a_gpu_refuses(gpu):
    x = torch.ones(3, device="cuda")
    assert x.is_cuda
    assert (x + 1).device == x[:2].device == torch.ones_like(x).device == x.to(float).device == GPU
    assert not x.cpu().is_cuda
    with pytest.raises(RuntimeError, match="two devices"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="two devices"):
        nn.Linear(3, 3).to("cuda")(torch.ones(2, 3))


@pytest.mark.parametrize("aggr", [*aggregations])
def test_every_aggregation(gpu, aggr):
    use(MessageRound(GRAPH, 24, 24, aggr=aggr, norm="batch").to("cuda"), draw(3, 24))
    if aggr == "degree-scaled":
        return  # the degrees of the data are not known
    edges = GRAPH.edge_index.to("cuda")
    use(GraphRound(6, 6, aggr=aggr, activation="relu").to("cuda"), draw(8, 6), edges)


MESSAGES = {name: message_functions.get(name) for name in message_functions}
OVER_VECTORS = [name for name, kind in MESSAGES.items() if not kind.vectors_instead]
OVER_MAPS = [name for name, kind in MESSAGES.items() if not kind.maps_instead]


@pytest.mark.parametrize("message", OVER_VECTORS)
def test_every_message_over_vectors(gpu, message):
    layer = MessageRound(GRAPH, 24, 24, message, squeeze_excitation=2, norm="layer")
    use(layer.to("cuda"), draw(3, 24))


@pytest.mark.parametrize("message", OVER_MAPS)
def test_every_message_over_maps(gpu, message):
    size = {"kernel_size": (3, 3), "padding": (1, 1)}
    layer = MessageRound(
        GRAPH, 24, 24, message, squeeze_excitation=2, norm="layer", message_kwargs=size
    )
    use(layer.to("cuda"), draw(3, 24, 4, 4))


@pytest.mark.parametrize("backend", ["auto", "reference", "masked", "gather"])
def test_every_backend(gpu, backend):
    shared = {"backend": backend, "norm": "batch", "activation": "relu", "device": "cuda"}
    use(RelationalLinear(GRAPH, 21, 24, **shared), draw(3, 2, 21).flatten(0, 1))
    use(RelationalConv2d(GRAPH, 21, 24, 3, stride=2, **shared), draw(3, 21, 5, 5))


@pytest.mark.parametrize("kind", [gnn.GCN, gnn.SAGE, gnn.Graph, gnn.GAT])
def test_every_gnn(gpu, kind):
    use(kind(6, 5).to("cuda"), draw(8, 6), GRAPH.edge_index.to("cuda"))


@pytest.mark.parametrize("name", ["mlp", "cnn8", "resnet20", "mlp_mixer", "vit"])
def test_networks(stand_in, no_trials, name):
    sizes = {"width_multiplier": 0.5, "image_size": 16} if name != "mlp" else {"in_features": 9}
    network = models.build(name, GRAPH, **sizes)
    with stand_in():
        use(network.to("cuda"), draw(2, 9) if name == "mlp" else draw(2, 3, 16, 16))
        assert next(to_dense(network.to("cuda")).parameters()).is_cuda


def test_backends_agree(gpu):
    found = compare_backends(GRAPH, 21, 24, device="cuda", dtype=torch.float64)
    agreed = {agreement.name for agreement in found if agreement.differences}
    assert {"masked", "gather", "nn.Linear"} <= agreed
    assert all(a.largest < 1e-12 for a in found if a.differences)


def test_trainings(gpu):
    data = load_dataset("digits").subset(100, 20)
    recipe = TrainingConfig(epochs=1, batch_size=32)

    def build():
        torch.manual_seed(0)
        return models.build("mlp", GRAPH, in_features=64, hidden_features=32)

    def generator():
        return torch.Generator().manual_seed(0)

    one = Trainer(build(), data, recipe, generator=generator(), device="cuda")
    assert one.train_epoch().train_loss > 0
    assert next(one.model.parameters()).is_cuda
    two = Population([build(), build()], data, recipe, generator=generator(), device="cuda")
    assert all(epoch.train_loss > 0 for epoch in two.train_epoch().values())
