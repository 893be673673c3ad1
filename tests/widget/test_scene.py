"""What a scene holds is what was recorded."""

import json

import numpy as np
import pytest
import torch
from torch_geometric.nn import SoftmaxAggregation

from mpnn_arch import RelationalConv2d, RelationalLinear, graphs
from mpnn_arch.widget import scene as scenes
from mpnn_arch.widget.patch import difference, patched
from mpnn_arch.widget.recording import record
from mpnn_arch.widget.rewire import rewire
from mpnn_arch.widget.scene import make_scene, menus, pack, unpack
from mpnn_arch.widget.toggled import toggled_graph


def scene_of(layer, x):
    return make_scene(record(layer, x)[""])


def test_packed_numbers_come_back():
    values = torch.tensor([0.0, 1.5, -3.25, 1e-3, torch.nan, torch.inf, -torch.inf])
    back = unpack(pack(values))
    np.testing.assert_allclose(back[:4], values[:4], atol=3.25 / 65532)
    np.testing.assert_array_equal(back[4:], values[4:])
    assert unpack(pack(torch.zeros(2))).tolist() == [0.0, 0.0]
    assert unpack(pack(torch.zeros(0))).tolist() == []


def test_a_scene_holds_the_round(graph, generator):
    layer = RelationalLinear(graph, 20, 23, activation="relu", generator=generator)
    x = torch.randn(1, 20, generator=generator)
    scene = json.loads(json.dumps(scene_of(layer, x)))  # JSON-able as it is
    weight, out = layer.dense_weight().detach(), layer(x)[0].detach()
    for v in range(9):
        node = scene["nodes"][str(v)]
        row, size = layer.out_partition.offsets[v], layer.out_partition.sizes[v]
        np.testing.assert_allclose(unpack(node["output"]), out[row : row + size], atol=1e-3)
        blocks = unpack(node["weights"])
        for u in node["sources"]:
            columns = slice(layer.in_partition.offsets[u], layer.in_partition.offsets[u + 1])
            block = weight[row : row + size, columns].flatten()
            np.testing.assert_allclose(blocks[: block.numel()], block, atol=1e-3)
            blocks = blocks[block.numel() :]
        assert blocks.size == 0
        messages = unpack(node["messages"]).reshape(-1, size)
        np.testing.assert_allclose(messages.sum(0), unpack(node["aggregate"]), atol=1e-3)
        np.testing.assert_allclose(unpack(node["partial"])[-size:], messages.sum(0), atol=1e-3)
    assert scene["difference"] < 1e-5
    assert scene["facts"]["multiply_adds"] == layer.plan.num_weights


def test_facts_of_a_graph_that_is_not_connected(generator):
    graph = graphs.RelationalGraph(4, [[0, 2], [1, 3]])
    scene = scene_of(RelationalLinear(graph, 4, 4, generator=generator), torch.ones(1, 4))
    assert scene["facts"]["average_path_length"] is None


@pytest.mark.parametrize(
    ("message", "kwargs"), [("edge_mlp", {"hidden_channels": 5}), ("low_rank", {"rank": 1})]
)
def test_a_round_that_is_not_one_product_says_so(message, kwargs):
    layer = RelationalLinear(graphs.ring(8, 4), 16, 16, message=message, message_kwargs=kwargs)
    scene = scene_of(layer, torch.ones(1, 16))
    assert scene["difference"] is None
    assert scene["no_dense"].startswith("this round is not one product with its weights")
    assert not scene["whole_blocks"]
    assert any("No weights of this message" in note for note in scene["notes"])


def test_a_gated_message_shows_its_value_matrix(generator):
    layer = RelationalLinear(graphs.ring(8, 4), 16, 16, message="gated", generator=generator)
    scene = scene_of(layer, torch.ones(1, 16))
    assert scene["matrix"] == "value.weight"
    block = unpack(scene["nodes"]["0"]["weights"])[:4]
    expected = layer.message_function.value.blocks()[0].flatten().detach()
    np.testing.assert_allclose(block, expected, atol=1e-4)


def test_sigma_is_all_that_comes_after_agg(generator):
    x = torch.ones(1, 16)
    plain = RelationalLinear(graphs.ring(8, 4), 16, 16, generator=generator)
    assert scene_of(plain, x)["update"] == "the identity"
    kwargs = {"norm": "layer", "residual": True, "activation": "relu", "generator": generator}
    whole = RelationalLinear(graphs.ring(8, 4), 16, 16, **kwargs)
    expected = "GroupNorm, then adding the residual, then ReLU"
    assert scene_of(whole, x)["update"] == expected


def test_an_aggregation_of_a_long_name_is_called_agg(generator):
    for given, called in [("mean+max", "mean+max"), (SoftmaxAggregation(learn=True), "AGG")]:
        layer = RelationalLinear("ring:4,2", 8, 8, aggr=given, generator=generator)
        (recording,) = record(layer, torch.ones(1, 8)).values()
        assert make_scene(recording)["aggr"] == called
        assert menus(layer)["aggr"][0] == str(layer.aggr)


def test_a_projection_after_agg_is_named(generator):
    layers = [
        RelationalLinear(graphs.ring(8, 4), 16, 16, aggr=aggr, generator=generator)
        for aggr in ("mean", "mean+max")
    ]
    alone, both = (scene_of(layer, torch.ones(1, 16))["notes"] for layer in layers)
    assert alone == []
    assert both == [
        "AGG ends in a learned projection, which brings its channels back to each node's share."
    ]


def test_maps_are_kept_small_and_a_note_says_so(generator):
    layer = RelationalConv2d(graphs.ring(8, 4), 8, 8, 3, padding=1, generator=generator)
    x = torch.randn(1, 8, 56, 56, generator=generator)
    scene = scene_of(layer, x)
    assert scene["map_out"] == [28, 28]
    assert any("28 x 28" in note for note in scene["notes"])
    drawn = unpack(scene["nodes"]["0"]["output"]).reshape(28, 28)
    whole = layer(x)[0, 0].detach().view(28, 2, 28, 2).mean((1, 3))
    np.testing.assert_allclose(drawn, whole, atol=1e-3)


def test_too_many_numbers_are_drawn_by_their_means(generator, monkeypatch):
    monkeypatch.setattr(scenes, "MOST_NUMBERS", 100)
    layer = RelationalLinear(graphs.ring(8, 4), 64, 64, generator=generator)
    scene = scene_of(layer, torch.ones(1, 64))
    node = scene["nodes"]["0"]
    assert "messages" not in node
    assert len(unpack(node["weights"])) == len(node["sources"])
    assert len(scene["notes"]) == 2
    assert scene["matrix"] == "mean of W"
    block = layer.dense_weight()[:8, :8].mean().item()
    assert unpack(node["weights"])[0] == pytest.approx(block, abs=1e-4)


def test_above_256_nodes_it_says_that_the_matrix_is_drawn_alone(generator):
    layer = RelationalLinear(graphs.ring(300, 2), 300, 300, generator=generator)
    scene = scene_of(layer, torch.ones(1, 300))
    assert any("the matrix alone" in note for note in scene["notes"])


def test_menus_hold_what_fits_the_kind_of_features(generator):
    over_vectors = menus(RelationalLinear("ring:4,2", 4, 4))
    over_maps = menus(RelationalConv2d("ring:4,2", 4, 4, 1))
    assert "linear" in over_vectors["message"]
    assert "conv" not in over_vectors["message"]
    assert "conv" in over_maps["message"]
    assert "linear" not in over_maps["message"]
    assert over_vectors["aggr"][:2] == ["sum", "mean"]
    assert menus(RelationalLinear("ring:4,2", 4, 4, aggr="mean+max"))["aggr"][0] == "mean+max"


def test_a_patch_turns_one_scene_into_the_other(generator):
    layer = RelationalLinear(graphs.ring(8, 4), 16, 16, generator=generator)
    x = torch.randn(1, 16, generator=generator)
    old, new = scene_of(layer, x), scene_of(rewire(layer, toggled_graph(layer.graph, [(0, 4)])), x)
    patch = difference(old, new)
    assert set(patch["nodes"]) == {"0", "4"}
    assert patched(old, patch) == new
    assert difference(old, old) == {}
    assert patched({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}}) == {"b": {"c": 2, "d": 3}}
