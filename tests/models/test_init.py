"""Initial weights scaled by the fan-in of every node."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import Aggregation, SumAggregation

from mpnn_arch import MessageFunction, RelationalConv2d, RelationalGraph, RelationalLinear, models


def draw(module, init, seed=0):
    models.initialise(module, init, torch.Generator().manual_seed(seed))
    return module


def ring(num_nodes, reach):
    """Every node is linked to its `reach` nearest nodes on either side, and to itself."""
    edges = [(v, (v + step) % num_nodes) for v in range(num_nodes) for step in range(1, reach + 1)]
    return RelationalGraph(num_nodes, np.array(edges).T)


@pytest.mark.parametrize("reach", [1, 4, 16, 32], ids=lambda r: f"degree-{2 * r}")
@pytest.mark.parametrize(
    ("kind", "init"), [("linear", "kaiming"), ("conv", "kaiming"), ("conv", "published")]
)
def test_activations_keep_their_scale_over_ten_rounds(reach, kind, init):
    graph = ring(64, reach)
    layers = []
    for _ in range(10):
        if kind == "linear":
            layer = RelationalLinear(graph, 1024, 1024, bias=False, backend="masked")
        else:
            layer = RelationalConv2d(graph, 256, 256, 3, padding=1, bias=False, backend="masked")
        layers += [layer, nn.ReLU()]
    model = draw(nn.Sequential(*layers), init)
    shape = (256, 1024) if kind == "linear" else (2, 256, 12, 12)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    scales = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                scales.append(x.square().mean().sqrt().item())
    # Zero padding at the border of a conv reduces the scale in every round.
    lowest = 0.5 if kind == "linear" else 0.2
    assert all(lowest < scale / scales[0] < 2 for scale in scales), scales


def test_kaiming_uses_the_fan_in_of_every_node():
    """On a star the hub receives from 33 nodes and a leaf from 2; both keep the scale."""
    star = RelationalGraph(33, np.stack([np.zeros(32, dtype=int), np.arange(1, 33)]))
    layer = draw(RelationalLinear(star, 33 * 20, 33 * 20), "kaiming")
    hub, leaf = layer.dense_weight()[:20], layer.dense_weight()[20:]
    assert hub.std().item() == pytest.approx(math.sqrt(2 / (33 * 20)), rel=0.03)
    assert leaf[leaf != 0].std().item() == pytest.approx(math.sqrt(2 / (2 * 20)), rel=0.03)
    assert not layer.bias.any()


def test_published_standard_deviations(random_graph):
    graph = random_graph(16, 0.3)
    conv = draw(RelationalConv2d(graph, 160, 96, 3), "published")
    share = conv.weight.shape[0] / (160 * 96)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 96 * share)), rel=0.02)
    linear = draw(RelationalLinear(graph, 200, 300), "published")
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    dense = draw(nn.Conv2d(64, 128, 3), "published")
    assert dense.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)


@pytest.mark.parametrize(("init", "last"), [("published", 0.0), ("kaiming", 1.0)])
def test_last_norm_of_a_residual_block(init, last):
    block = models.build("resnet20", init=init).stages[1][0]
    assert torch.equal(block.transform.b.norm.weight, torch.full((32,), last))
    assert torch.equal(block.transform.a.norm.weight, torch.ones(32))
    assert torch.equal(block.shortcut.norm.weight, torch.ones(32))


def test_rounds_with_other_aggregations_keep_their_own_draw(random_graph):
    layer = RelationalLinear(random_graph(8, 0.4), 16, 16, aggr="mean")
    before = layer.weight.clone()
    draw(layer, "kaiming")
    assert torch.equal(layer.weight, before)


class Generated(MessageFunction):
    """W_vu from a network of an embedding of the edge, with a start of its own."""

    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        self.edge = nn.Parameter(torch.empty(plan.num_edges, 3, **self.factory))
        self.network = nn.Linear(3, plan.largest_out * plan.largest_in, **self.factory)

    def forward(self, x_j, edges):
        weight = self.network(self.edge[edges]).unflatten(1, (-1, x_j.shape[2]))
        return torch.einsum("ebi,eoi->ebo", x_j, weight)

    def reset_parameters(self, generator=None):
        with torch.no_grad():
            self.edge.normal_(generator=generator)
            nn.init.constant_(self.network.weight, 0.25)
            nn.init.constant_(self.network.bias, 0.5)

    def multiply_adds(self, spatial_size=()):
        return self.network.weight.numel() + self.plan.num_weights


class Gated(Aggregation):
    """Parameters that no ``reset_parameters`` draws."""

    def __init__(self, channels):
        super().__init__()
        self.gate, self.scale = nn.Linear(channels, 1), nn.Parameter(torch.randn(channels))

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        gated = x * self.gate(x).sigmoid() * self.scale
        return self.reduce(gated, index, ptr, dim_size, dim, reduce="sum")


@pytest.mark.parametrize("init", ["published", "kaiming"])
def test_layers_inside_a_message_or_an_aggregation_keep_their_own_draw(init):
    built = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # of which no model depends
        model = models.build(
            "mlp", ring(8, 2), in_features=16, seed=0, init=init, message=Generated, aggr=Gated
        )
        built.append(model.state_dict())
    torch.testing.assert_close(*built, rtol=0, atol=0)
    network = model.rounds[0].message_function.network
    assert (network.weight == 0.25).all()
    assert (network.bias == 0.5).all()
    gates = [layer.aggr_module.gate for layer in model.rounds]
    assert all(gate.bias.any() and gate.weight.abs().max() > 0.04 for gate in gates)
    assert not torch.equal(gates[0].weight, gates[1].weight)


@pytest.mark.parametrize("aggr", ["Sum", SumAggregation, SumAggregation()])
def test_a_sum_by_any_name_starts_as_a_sum(aggr):
    made = [
        models.build("mlp", ring(8, 2), in_features=16, seed=0, aggr=one).state_dict()
        for one in ("sum", aggr)
    ]
    torch.testing.assert_close(*made, rtol=0, atol=0)
