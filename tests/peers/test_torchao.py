"""torchao quantises the dense twin of a network of rounds, and leaves the rounds themselves."""

import pytest
import torch
from torch import nn

from mpnn_arch import RelationalLinear, graphs, to_dense

torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
pytestmark = pytest.mark.peers

CONFIGURATIONS = ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"]


@pytest.fixture
def model() -> nn.Module:
    graph = graphs.ws_flex(num_nodes=8, average_degree=4, rewiring_probability=0.2, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(RelationalLinear(graph, 64, 64, activation="relu"), nn.Linear(64, 10))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_dense_twin_is_quantised_and_keeps_its_zeros(model, name):
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    twin = to_dense(model)
    absent = next(p for p in twin.parameters() if p.dim() == 2) == 0
    torchao.quantize_(twin, getattr(torchao, name)())
    quantised = [p for p in twin.parameters() if type(p) is not nn.Parameter]
    assert len(quantised) == 2
    assert absent.any()
    assert not quantised[0].dequantize()[absent].any()
    with torch.no_grad():
        assert (twin(x) - model(x)).abs().max() < 0.05 * model(x).abs().max()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_round_stays_as_it_is(model, name):
    torchao.quantize_(model, getattr(torchao, name)())
    changed = [key for key, p in model.named_parameters() if type(p) is not nn.Parameter]
    assert changed == ["1.weight"]
