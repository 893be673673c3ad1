"""The CNN for signals against ``nn.Conv1d``."""

import pytest
import torch
from torch import nn

from mpnn_arch import InputError, models


def test_it_is_a_convolution_along_the_signal(complete_graph):
    made = {"length": 40, "in_channels": 1, "width_multiplier": 0.125}
    model = models.build("cnn1d", complete_graph(4), seed=2, **made).double().eval()
    x = torch.randn(3, 1, 1, 40, generator=torch.Generator().manual_seed(0)).double()
    y = nn.functional.conv1d(x[:, :, 0], model.stem.layer.weight[:, :, 0], padding=2).relu()
    for layer in model.rounds:
        y = nn.functional.conv1d(y, layer.dense_weight()[:, :, 0], stride=2, padding=1).relu()
    y = model.head.linear(y.mean(2))
    # A fresh BatchNorm divides by sqrt(1 + eps), four times.
    torch.testing.assert_close(model(x), y, rtol=1e-3, atol=1e-5)
    assert models.complexity(model).multiply_adds == 16 * 5 * 40 + 16 * 16 * 3 * 35 + 16 * 10


@pytest.mark.parametrize("backend", ["masked", "gather", "cpu"])
def test_backends_agree_on_kernels_of_one_row(random_graph, backend):
    graph = random_graph(8, 0.4)
    made = {"length": 33, "in_channels": 2, "width_multiplier": 0.2, "seed": 1}
    wanted = models.build("cnn1d", graph, backend="reference", **made)
    model = models.build("cnn1d", graph, backend=backend, **made)
    x = torch.randn(4, 2, 1, 33, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), wanted(x), rtol=1e-4, atol=1e-5)
    for network in (model, wanted):
        network(x).square().sum().backward()
    for mine, theirs in zip(model.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_a_signal_too_short_to_halve_is_refused():
    with pytest.raises(InputError, match="too small for cnn1d"):
        models.build("cnn1d", length=3, in_channels=1)
    with pytest.raises(InputError, match="length is an integer of at least 1"):
        models.build("cnn1d", length=0)
