"""Averages of networks with their buffers leave a round's graph as it is.

``timm.utils.ModelEmaV2`` averages all of a state dict, and
``torch.optim.swa_utils.AveragedModel(use_buffers=True)`` all buffers, integers included, which a
weighted mean rounds.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mpnn_arch import InputError, MessageRound, RelationalLinear, graphs

GRAPH = graphs.parse_one("ws_flex:40,6,0.2,0")
LAYERS = {
    "sum": lambda **kw: RelationalLinear(GRAPH, 40, 50, **kw),
    "max": lambda **kw: RelationalLinear(GRAPH, 40, 50, aggr="max", **kw),
    "in chunks": lambda **kw: RelationalLinear(GRAPH, 40, 50, aggr="max", **kw),
    "reference": lambda **kw: MessageRound(GRAPH, 40, 50, **kw),
}
DECAY = 0.9


def rounded(average: torch.Tensor, value: torch.Tensor) -> None:
    """A step of an exponential average, which rounds integers down."""
    average.copy_(DECAY * average + (1 - DECAY) * value)


def test_such_a_step_rounds_integers() -> None:
    average = torch.tensor([7])
    rounded(average, torch.tensor([7]))
    assert average.tolist() == [6]


@pytest.mark.parametrize("over", ["state dict", "buffers"])
@pytest.mark.parametrize("name", LAYERS)
def test_an_average_is_of_the_same_graph(
    name: str, over: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = LAYERS[name](generator=generator)
    if name == "in chunks":
        monkeypatch.setattr(RelationalLinear, "max_message_elements", 1000)
    average, x = copy.deepcopy(layer), torch.randn(5, 40, generator=generator)
    expected = layer(x)
    for _ in range(3):
        if over == "state dict":
            pairs = zip(average.state_dict().values(), layer.state_dict().values(), strict=True)
        else:
            pairs = zip(average.buffers(), layer.buffers(), strict=True)
        for one, other in pairs:
            rounded(one, other)
    torch.testing.assert_close(average(x), expected)
    assert torch.equal(average.graph.edge_index, GRAPH.edge_index)
    again = LAYERS[name](generator=generator)
    again.load_state_dict(average.state_dict())
    torch.testing.assert_close(again(x), expected)


def test_a_weighted_mean_of_state_dicts_loads(generator: torch.Generator) -> None:
    """As in federated averaging."""
    layers = [LAYERS["sum"](generator=generator) for _ in range(2)]
    shares = (0.9, 0.1)
    states = [layer.state_dict() for layer in layers]
    mean = {
        key: sum(share * state[key] for share, state in zip(shares, states, strict=True))
        for key in states[0]
    }
    assert (mean["edge_index"] != layers[0].edge_index).any()  # it is rounded
    loaded = nn.Sequential(LAYERS["sum"]())
    loaded.load_state_dict({f"0.{key}": value for key, value in mean.items()})
    assert torch.equal(loaded[0].edge_index, GRAPH.edge_index)
    x = torch.randn(5, 40, generator=generator)
    outs = [share * layer(x) for share, layer in zip(shares, layers, strict=True)]
    torch.testing.assert_close(loaded(x), sum(outs))


def test_a_mean_over_two_graphs_is_refused(generator: torch.Generator) -> None:
    other = RelationalLinear(graphs.parse_one("ws_flex:40,6,0.2,1"), 40, 50).state_dict()
    own = LAYERS["sum"]().state_dict()
    one = {key: value for key, value in own.items() if other[key].shape == value.shape}
    mean = {key: (value + other[key]) / 2 for key, value in one.items()}
    with pytest.raises(InputError, match="belong to"):
        LAYERS["sum"]().load_state_dict(mean, strict=False)
