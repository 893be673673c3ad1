"""One graph for all layers, or one by the layer's name."""

import pytest
from torch import nn

from mpnn_arch import InputError, RelationalLinear
from mpnn_arch.models.relationalize import relationalize


@pytest.fixture
def module():
    def block():
        return nn.ModuleDict({"up": nn.Linear(16, 32), "down": nn.Linear(32, 16)})

    return nn.ModuleDict({"blocks": nn.ModuleList([block(), block()]), "head": nn.Linear(16, 16)})


def graphs_of(changed):
    return {
        name: part.graph.num_nodes
        for name, part in changed.named_modules()
        if isinstance(part, RelationalLinear)
    }


def test_a_spec(module):
    assert set(graphs_of(relationalize(module, "ws_flex:8,4,0.1,0", skip=())).values()) == {8}


def test_patterns_of_which_the_first_counts(module, complete_graph):
    rule = {"*.0.up": None, "*.up": complete_graph(4), "blocks.*": "ws_flex:8,4,0.1,0"}
    changed = relationalize(module, rule, skip=())
    assert graphs_of(changed) == {"blocks.0.down": 8, "blocks.1.up": 4, "blocks.1.down": 8}
    assert changed.relationalize_report.names("no graph") == ["blocks.0.up", "head"]
    by_name = {layer.name: layer for layer in changed.relationalize_report.layers}
    assert by_name["blocks.1.up"].graph == complete_graph(4)
    assert by_name["head"].graph is None


def test_a_function_of_name_and_layer(module, complete_graph):
    def choose(name, layer):
        return complete_graph(min(layer.in_features, 20)) if name.endswith("down") else None

    # 16 output channels cannot be shared among 20 nodes.
    with pytest.raises(InputError, match="16 channels for 20 nodes"):
        relationalize(module, choose, skip=())
    changed = relationalize(module, lambda n, m: complete_graph(m.out_features // 2), skip=())
    assert graphs_of(changed)["blocks.0.up"] == 16
    assert graphs_of(changed)["head"] == 8


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"nothing*": "ws_flex:8,4,0.1,0"}, r"no dense layer is called 'nothing\*'"),
        ({}, "the dict of graphs is empty"),
        ({1: None}, "a pattern of layer names is text"),
        ({"*": 3}, r"a graph is a RelationalGraph .* not 3"),
        (lambda name: None, "takes the name of a layer and the layer"),
        (lambda name, layer: 3, r"a graph is a RelationalGraph .* not 3"),
        (None, "the graph is None"),
        ("nothing:1", "is not a graph spec"),
        ({"*": None}, "no graph was given"),
    ],
)
def test_wrong_rules(module, rule, message):
    with pytest.raises(InputError, match=message):
        relationalize(module, rule, skip=())


class TestTokenModels:
    def test_the_embedding_is_the_input_layer(self, module, complete_graph):
        model = nn.ModuleDict({"embedding": nn.Embedding(10, 16), **module})
        report = relationalize(model, complete_graph(8)).relationalize_report
        assert report.names("skipped") == ["head"]
        assert report.names("round")[0] == "blocks.0.up"

    def test_a_model_without_a_head_has_no_last_layer(self, module, complete_graph):
        model = nn.ModuleDict({"embedding": nn.Embedding(10, 16), "blocks": module["blocks"]})
        report = relationalize(model, complete_graph(8)).relationalize_report
        assert not report.names("skipped")
        assert len(report.names("round")) == 4
