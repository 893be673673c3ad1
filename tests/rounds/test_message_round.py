"""The round as PyG's MessagePassing: hooks, state dict, bad input."""

import doctest

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn import MessagePassing, SumAggregation

from mpnn_arch import ChannelPartition, FusedRound, InputError, RelationalGraph, RelationalLinear
from mpnn_arch.rounds import LinearMessage, message_round


@pytest.fixture
def path():
    return RelationalGraph(4, [[0, 1, 2], [1, 2, 3]])


def test_the_module_begins_with_a_dense_layer_as_a_round():
    said = doctest.DocTestParser().get_doctest(message_round.__doc__, {}, "round", None, None)
    assert "load_state_dict(dense.state_dict())" in message_round.__doc__
    assert doctest.DocTestRunner().run(said).failed == 0


def test_it_is_a_pyg_message_passing_layer(path):
    layer = FusedRound(path, 65, 65)
    assert isinstance(layer, MessagePassing)
    assert isinstance(layer.aggr_module, SumAggregation)
    assert layer.in_partition.sizes == (17, 16, 16, 16)


def test_hooks_show_every_message(path, generator):
    init = {"dtype": torch.float64, "generator": generator}
    layer = FusedRound(path, 8, 8, backend="reference", **init)
    seen = {}
    layer.register_propagate_forward_pre_hook(lambda m, inputs: seen.update(propagate=inputs))
    layer.register_message_forward_hook(lambda m, i, out: seen.update(message=out))
    layer.register_aggregate_forward_hook(lambda m, i, out: seen.update(aggregate=out))
    x = torch.randn(3, 8, dtype=torch.float64, generator=generator)
    out = layer(x)

    assert seen["message"].shape == (10, 3, 2)
    torch.testing.assert_close(seen["aggregate"] + layer.bias, out)
    blocks = layer.message_function.edge_blocks()
    for edge, (source, target) in enumerate(path.edge_index.T.tolist()):
        by_hand = x[:, 2 * source : 2 * source + 2] @ blocks[edge].T
        torch.testing.assert_close(seen["message"][edge], by_hand)
        dense = layer.dense_weight()[2 * target : 2 * target + 2, 2 * source : 2 * source + 2]
        torch.testing.assert_close(blocks[edge], dense)


def test_a_hook_can_change_the_messages(path):
    layer = FusedRound(path, 8, 8, bias=False, backend="reference")
    layer.register_message_forward_hook(lambda m, i, out: torch.zeros_like(out))
    assert layer(torch.ones(2, 8)).abs().max() == 0


def test_the_fused_round_takes_pygs_fused_path(path):
    layer = FusedRound(path, 8, 8, backend="masked")
    calls = []
    layer.register_message_and_aggregate_forward_hook(lambda m, i, out: calls.append(out.shape))
    layer(torch.zeros(3, 8))
    assert calls == [(3, 8)]


def test_the_first_instance_does_not_decide_for_the_class(path):
    class Fresh(FusedRound):
        pass

    Fresh(path, 8, 8, aggr="median")
    fused = Fresh(path, 8, 8, backend="masked")
    reference = Fresh(path, 8, 8, backend="reference")
    reference.load_state_dict(fused.state_dict())
    x = torch.ones(2, 8)
    expected = F.linear(x, fused.dense_weight(), fused.bias)
    torch.testing.assert_close(fused(x), expected)
    torch.testing.assert_close(reference(x), expected)


def test_update_applies_bias_then_norm_then_activation(path, generator):
    layer = FusedRound(path, 8, 9, norm="batch", activation="relu", generator=generator)
    x = torch.randn(16, 8, generator=generator)
    plain = F.linear(x, layer.dense_weight(), layer.bias)
    expected = torch.relu(nn.BatchNorm1d(9)(plain))
    torch.testing.assert_close(layer(x), expected)


def test_given_shares_are_kept(path):
    shares = ChannelPartition.from_sizes([16, 16, 16, 17])
    layer = FusedRound(path, shares, shares)
    assert layer.out_partition.sizes == (16, 16, 16, 17)
    assert layer(torch.zeros(2, 65)).shape == (2, 65)


def test_the_graph_travels_in_the_state_dict(path):
    state = FusedRound(path, 8, 8).state_dict()
    assert torch.equal(state["edge_index"], path.edge_index)
    assert bytes(state["graph_hash"].tolist()).hex() == path.content_hash


def test_weights_of_another_graph_are_refused(path):
    ring = RelationalGraph(4, [[0, 1, 2, 3], [1, 2, 3, 0]])
    state = FusedRound(ring, 8, 8).state_dict()
    layer = FusedRound(path, 8, 8)
    before = layer.message_function.weight.clone()
    with pytest.raises(InputError, match=r"hash=.*this round to RelationalGraph\(4 nodes, 3 edges"):
        layer.load_state_dict(state)
    assert torch.equal(layer.message_function.weight, before)


@pytest.mark.parametrize(
    ("graph", "channels", "name", "number"),
    [("ring:4,2", 1030, "in_sizes", 257), ("ring:400,2", 400, "edge_index", 399)],
)
def test_numbers_that_a_cast_of_all_tensors_lost_are_named(graph, channels, name, number):
    layer = RelationalLinear(graph, channels, channels)
    state = {key: value.bfloat16() for key, value in layer.state_dict().items()}
    words = rf"'{name}' of the state dict was cast to torch.bfloat16, which has no {number}: cast"
    with pytest.raises(InputError, match=words):
        layer.load_state_dict(state)
    layer.load_state_dict({key: value.half() for key, value in layer.state_dict().items()})


def test_weights_of_another_partition_are_refused(path):
    state = FusedRound(path, ChannelPartition.from_sizes([1, 2, 3, 2]), 8).state_dict()
    with pytest.raises(InputError, match=r"node 0 1 of the input channels, this round 2: "):
        FusedRound(path, 8, 8).load_state_dict(state)
    shares = ChannelPartition.from_sizes(state["in_sizes"])
    FusedRound(path, shares, 8).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"in_channels": 3}, "3 channels cannot be shared among 4 nodes"),
        ({"out_channels": ChannelPartition(8, 5)}, "among 5 nodes, the graph has 4"),
        ({"message": "linera"}, "did you mean 'linear'"),
        ({"backend": "warp"}, "there is no backend 'warp'; choose one of"),
        ({"activation": "rleu"}, "there is no activation 'rleu'"),
        ({"norm": "bacth"}, "there is no norm 'bacth'"),
        ({"message_kwargs": {"rank": 3}}, "LinearMessage rejected its arguments"),
    ],
)
def test_bad_arguments_get_one_sentence(path, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        FusedRound(**{"graph": path, "in_channels": 8, "out_channels": 8} | arguments)


def test_input_of_a_wrong_width_is_named(path):
    with pytest.raises(InputError, match=r"takes \(\.\.\., 8\), not \(2, 9\)"):
        FusedRound(path, 8, 8)(torch.zeros(2, 9))


def test_an_aggregation_that_is_no_sum_cannot_be_fused(path):
    with pytest.raises(InputError, match="masked"):
        FusedRound(path, 8, 8, aggr="max", backend="masked")


def test_a_message_function_class_is_taken(path):
    class Twice(LinearMessage):
        """Doubles every message."""

        fusable = False

        def forward(self, x_j, edges):
            return 2 * super().forward(x_j, edges)

    twice = FusedRound(path, 8, 8, message=Twice, bias=False)
    once = FusedRound(path, 8, 8, bias=False)
    once.load_state_dict(twice.state_dict())
    x = torch.ones(3, 8)
    torch.testing.assert_close(twice(x), 2 * F.linear(x, once.dense_weight()))
