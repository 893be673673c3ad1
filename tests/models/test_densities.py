"""Erdos-Renyi-kernel densities, and a model on graphs that have them."""

import pytest
import torch
import torchvision
from torch import nn

from mpnn_arch import InputError, RelationalGraph, relationalize
from mpnn_arch.models.relationalize import (
    WeightShape,
    erdos_renyi_kernel,
    erdos_renyi_kernel_densities,
)

SHAPES = {
    "small": WeightShape(16, 16, (3, 3)),
    "large": WeightShape(512, 512, (3, 3)),
    "linear": WeightShape(256, 64),
    "attention": WeightShape(64, 64, count=4),
}


def overall(densities):
    kept = sum(d * SHAPES[name].size for name, d in densities.items())
    return kept / sum(shape.size for shape in SHAPES.values())


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.99, 1.0])
def test_the_overall_density_is_met(density):
    densities = erdos_renyi_kernel_densities(SHAPES, density)
    assert overall(densities) == pytest.approx(density, rel=1e-9)
    assert all(0 < d <= 1 for d in densities.values())


def test_densities_are_proportional_to_the_formula():
    densities = erdos_renyi_kernel_densities(SHAPES, 0.01)
    assert densities["small"] < 1
    # (fan_in + fan_out + kh + kw) / (fan_in fan_out kh kw), by hand
    expected = (38 / 2304) / (1030 / 2359296)
    assert densities["small"] / densities["large"] == pytest.approx(expected)
    assert densities["linear"] / densities["attention"] == pytest.approx(
        (320 / 16384) / (128 / 4096)
    )


def test_clipped_layers_leave_their_surplus_to_the_others():
    densities = erdos_renyi_kernel_densities(SHAPES, 0.3)
    assert densities["small"] == 1
    assert densities["large"] == pytest.approx(0.3, rel=0.05)
    floor = erdos_renyi_kernel_densities(SHAPES, 0.1, least=0.099)
    assert min(floor.values()) == 0.099
    assert overall(floor) == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize("density", [0.25, 0.6])
def test_a_resnet_keeps_the_share_that_was_asked_for(density):
    with torch.device("meta"):
        module = torchvision.models.resnet18()
    graphs = erdos_renyi_kernel(module, density, num_nodes=32)
    changed = relationalize(module, graphs)
    rounds = {layer.name: layer.graph for layer in changed.relationalize_report.layers}
    rounds = {name: graph for name, graph in rounds.items() if graph is not None}
    assert rounds == graphs
    assert len(rounds) == 19
    kept = sum(changed.get_submodule(name).weight.numel() for name in rounds)
    dense = sum(module.get_submodule(name).weight.numel() for name in rounds)
    assert kept / dense == pytest.approx(density, rel=2e-3)
    widest, narrowest = rounds["layer4.1.conv2"], rounds["layer2.0.downsample.0"]
    assert widest.block_density < density < narrowest.block_density


class Experts(nn.Module):
    """Four gated experts in the layout of transformers."""

    has_gate = is_concatenated = True
    has_bias = is_transposed = has_post_expert_norm = False

    def __init__(self):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.zeros(4, 2 * 128, 64))
        self.down_proj = nn.Parameter(torch.zeros(4, 64, 128))
        self.act_fn = nn.SiLU()

    def _default_apply_gate(self, x):
        raise NotImplementedError

    _apply_gate = _default_apply_gate


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.Conv2d(64, 64, 1, bias=False), nn.Conv2d(64, 512, 3, groups=4, bias=False)),
        (nn.Linear(64, 512, bias=False), Experts()),
        (
            nn.Linear(64, 256, bias=False),
            nn.MultiheadAttention(64, 4, bias=False, kdim=256, vdim=256),
        ),
    ],
    ids=["groups", "experts", "projections"],
)
def test_every_group_expert_and_projection_counts(first, second):
    module = nn.Sequential(first, second)
    graphs = erdos_renyi_kernel(module, 0.4, num_nodes=16, skip=())
    assert set(graphs) == {"0", "1"}
    changed = relationalize(module, graphs, skip=())
    kept, dense = (sum(p.numel() for p in one.parameters()) for one in (changed, module))
    assert kept / dense == pytest.approx(0.4, rel=0.02)


def test_density_one_is_the_complete_graph():
    module = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    graphs = erdos_renyi_kernel(module, 1, num_nodes=8, skip=())
    assert set(graphs) == {"0", "1", "2"}
    assert all(graph.block_density == 1 for graph in graphs.values())


def test_seeds_make_graphs():
    module = nn.Sequential(*(nn.Linear(32, 32) for _ in range(3)))
    first, again, other = (
        erdos_renyi_kernel(module, 0.4, num_nodes=16, skip=(), seed=seed) for seed in (0, 0, 5)
    )
    assert first == again
    assert first != other
    assert len({graph.content_hash for graph in first.values()}) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: erdos_renyi_kernel(m, 0.05, num_nodes=16), "0.05 is below 0.1875"),
        (lambda m: erdos_renyi_kernel(m, 1.5), "density lies between 0 and 1"),
        (lambda m: erdos_renyi_kernel(m, 0.5, num_nodes=64), "no layer .* 64 nodes"),
        (lambda m: erdos_renyi_kernel(nn.ReLU(), 0.5), "no layer of ReLU"),
        (lambda m: erdos_renyi_kernel("model", 0.5), "those of a torch module"),
        (lambda m: erdos_renyi_kernel_densities({}, 0.5), "no layer"),
        (lambda m: erdos_renyi_kernel_densities(SHAPES, 0), "density is above 0, 0 was given"),
    ],
)
def test_wrong_values(call, message):
    module = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    with pytest.raises(InputError, match=message):
        call(module)


def test_graphs_are_relational_graphs():
    graphs = erdos_renyi_kernel(nn.Linear(16, 16), 0.5, skip=())
    assert isinstance(graphs[""], RelationalGraph)
    assert relationalize(nn.Linear(16, 16), graphs).graph == graphs[""]
