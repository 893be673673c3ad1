"""A message function that is set on a round after it was built."""

import pytest
import torch
from torch import nn

from mpnn_arch import (
    ChannelPartition,
    FusedRound,
    GraphRound,
    InputError,
    MessageRound,
    RelationalConv2d,
    RelationalLinear,
    graphs,
)
from mpnn_arch.rounds.gnn import GCN
from mpnn_arch.rounds.messages import make_message

RING, OTHER = graphs.parse_one("ring:8,2"), graphs.parse_one("ws_flex:8,2,0.9,1")
ODD = ChannelPartition.from_sizes([3, 1, 2, 2, 2, 2, 2, 2])


@pytest.mark.parametrize("kind", [FusedRound, MessageRound])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda kind: kind(OTHER, 16, 16), "made for .* edges between 8 nodes .* another graph"),
        (lambda kind: kind(RING, 16, 24), r"16 -> 24 channels.* this round on .*\(16 -> 16"),
        (lambda kind: kind(RING, ODD, 16), "other shares .* take that of a round with the same"),
        (lambda kind: GraphRound(16, 16), "1 edge between 1 node with"),
        (lambda kind: RelationalConv2d(RING, 16, 16, 3), "works on maps, .* round on vectors"),
    ],
)
def test_one_of_another_round_is_refused(kind, other, message):
    layer = kind(RING, 16, 16)
    before, x = layer.message_function, torch.ones(2, 16)
    expected = layer(x)
    with pytest.raises(InputError, match=message):
        layer.message_function = other(kind).message_function
    assert layer.message_function is before
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("value", [nn.Linear(2, 2), None, torch.relu])
def test_what_is_no_message_function_is_refused(value):
    layer = RelationalLinear(RING, 16, 16)
    with pytest.raises(InputError, match=r"a MessageFunction on its plan.*make_message\("):
        layer.message_function = value


def test_one_of_a_graph_round_of_other_channels_is_refused():
    layer = GraphRound(16, 16)
    layer.message_function = GraphRound(16, 16).message_function
    with pytest.raises(InputError, match="another graph or other shares"):
        layer.message_function = GraphRound(8, 16).message_function


@pytest.mark.parametrize("message", ["linear", "gated"])
def test_one_on_the_same_plan_is_taken(message, generator):
    layer, other = (RelationalLinear(RING, 16, 16, message=m) for m in ("linear", message))
    layer.message_function = other.message_function
    layer.bias = other.bias
    x = torch.randn(3, 16, generator=generator)
    torch.testing.assert_close(layer(x), other(x))
    layer.message_function = make_message("low_rank", layer.plan)
    layer.reset_parameters()
    assert layer(x).isfinite().all()


@pytest.mark.parametrize("kind", [GraphRound, GCN])
def test_one_on_a_layer_that_is_made_anew_at_its_first_input_is_refused(kind):
    x, edges = torch.ones(3, 8), torch.tensor([[0, 1], [1, 2]])
    layer = kind(-1, 16)
    layer.message_function = make_message("shared_attention", layer.plan)
    with pytest.raises(InputError, match=r"with in_channels or message=, or set it after"):
        layer(x, edges)
    layer = kind(-1, 16)
    layer(x, edges)
    layer.message_function = function = make_message("shared_linear", layer.plan)
    assert layer.message_function is function
