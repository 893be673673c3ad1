"""Wherever a graph is taken, its specification is taken too, and anything else is refused."""

import importlib
import inspect

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

import mpnn_arch
from mpnn_arch import InputError, RelationalConv2d, RelationalLinear, graphs, models, relationalize
from mpnn_arch.diagnostics.agreement import compare_backends
from mpnn_arch.diagnostics.receipt import equal_cost_width
from mpnn_arch.graphs.given import as_graph, as_graphs, as_named_graphs
from mpnn_arch.models.relationalize import RelationalAttention, RelationalConv1d, RelationalExperts
from mpnn_arch.models.round_cost import RoundCost, round_cost
from mpnn_arch.rounds import FusedRound, MessageRound
from mpnn_arch.rounds.gnn import GCN, untie

SPEC = "ws_flex:8,4,0.2,0"
GRAPH = graphs.parse_one(SPEC)


def layer(kind):
    def call(graph):
        made = kind(graph)
        return next(part.graph for part in made.modules() if isinstance(part, MessageRound))

    return call


def widgets():
    from mpnn_arch.widget.rewire import rewire
    from mpnn_arch.widget.toggled import toggled_graph

    return rewire, toggled_graph


CALLS = {
    # public name -> what it makes of a graph, as something that can be compared
    "MessageRound": layer(lambda g: MessageRound(g, 16, 16)),
    "FusedRound": layer(lambda g: FusedRound(g, 16, 16)),
    "RelationalLinear": layer(lambda g: RelationalLinear(g, 16, 16)),
    "RelationalConv2d": layer(lambda g: RelationalConv2d(g, 16, 16, 3, groups=2)),
    "RelationalConv1d": layer(lambda g: RelationalConv1d(g, 16, 16, 3)),
    "RelationalAttention": layer(lambda g: RelationalAttention(g, 16, 4)),
    "RelationalExperts": layer(lambda g: RelationalExperts(g, 2, 16, 16, torch.relu)),
    "untie": layer(lambda g: untie(GCN(2, 2, normalize=False, add_self_loops=False), g)),
    "relationalize": layer(lambda g: relationalize(torch.nn.Linear(16, 16), g)),
    "build": lambda g: models.build("mlp", g, in_features=8, hidden_features=16).graphs,
    "mlp": lambda g: models.mlp(g, in_features=8, hidden_features=16).graphs,
    "match_budget": lambda g: models.match_budget("mlp", g, in_features=8),
    "match_widths": lambda g: models.match_widths(models.make_config("mlp"), g),
    "RoundCost": lambda g: RoundCost(g).multiply_adds(16, 16),
    "round_cost": lambda g: round_cost(g).multiply_adds(16, 16),
    "rewired": lambda g: graphs.rewired(g),
    "rewired_to_clustering": lambda g: graphs.rewired_to_clustering(g, 0.5, 0.4),
    "measure": lambda g: graphs.measure(g).to_numpy().tolist(),
    "GraphBatch.of": lambda g: graphs.GraphBatch.of(g).adjacency.tolist(),
    "compare_backends": lambda g: [
        one.name for one in compare_backends(g, 16, 16) if one.unavailable is None
    ],
    "equal_cost_width": lambda g: equal_cost_width(g, 10_000),
    "rewire": layer(lambda g: widgets()[0](RelationalLinear("ring:8", 16, 16), g)),
    "toggled_graph": lambda g: widgets()[1](g, [(0, 1)]),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_a_specification_is_the_graph(name):
    if name in ("rewire", "toggled_graph"):
        pytest.importorskip("anywidget", reason="the extra explorer is not installed")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        by_spec, by_graph = CALLS[name](SPEC), CALLS[name](GRAPH)
    assert by_spec == by_graph


@pytest.mark.parametrize("name", [name for name in CALLS if name != "relationalize"])
@pytest.mark.parametrize(
    "wrong", [3, 1.5, b"ring:8", np.ones((8, 8)), torch.tensor(2.5), {"a": 1}, "rung:8"]
)
def test_anything_else_is_refused_in_one_line(name, wrong):
    if name in ("rewire", "toggled_graph"):
        pytest.importorskip("anywidget", reason="the extra explorer is not installed")
    with pytest.raises(InputError) as caught:
        CALLS[name](wrong)
    assert "\n" not in str(caught.value)
    assert "ring:" in str(caught.value) or "ws_flex:" in str(caught.value)


PACKAGES = ("", ".graphs", ".models", ".rounds", ".rounds.gnn", ".models.relationalize")
# Parameters of that name that mean something else.
OTHER = {
    # patterns and functions as well, in tests/models/test_relationalize_graphs.py
    "LayerOutcome",
    # an assignment of graphs to rounds
    "Layers",
    "Meter",
}


def test_every_public_function_that_takes_a_graph_is_tried():
    public = {}
    for package in PACKAGES:
        module = importlib.import_module(f"mpnn_arch{package}")
        public |= {name: getattr(module, name) for name in module.__all__}
    taking = set()
    for name, value in public.items():
        if inspect.isclass(value) and issubclass(value, Exception | dict):
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        own = [] if not inspect.isclass(value) else [("__init__", value)]
        named = [(name, value)] if not own else [(name, value.__init__)]
        for label, function in named:
            try:
                parameters = inspect.signature(function).parameters
            except (TypeError, ValueError):
                continue
            if {"graph", "graphs"} & set(parameters):
                taking.add(label)
    tried = set(CALLS) | OTHER
    assert taking - tried == set()
    assert len(taking) > 10


def test_a_specification_of_several_graphs():
    several = "sample:16/48/0:3"
    assert as_graphs(several) == graphs.parse(several)
    assert as_graphs([SPEC, GRAPH]) == [GRAPH, GRAPH]
    assert len(graphs.measure(several)) == 3
    assert models.build("resnet20", several, device="meta").graphs == graphs.parse(several)
    assert as_named_graphs({"a": SPEC}) == {"a": GRAPH}
    with pytest.raises(InputError, match="names 3 graphs where one is needed"):
        RelationalLinear(several, 64, 64)
    with pytest.raises(InputError, match="a dict of names and graphs"):
        as_named_graphs([SPEC])


@pytest.mark.parametrize(
    "call",
    [
        lambda: RelationalLinear(512, 512, GRAPH),
        lambda: RelationalLinear(512, GRAPH, 512),
        lambda: RelationalLinear(GRAPH, GRAPH, 512),
        lambda: RelationalConv2d(16, 16, GRAPH, 3),
        lambda: RelationalConv2d(16, 16, 3, GRAPH),
        lambda: RelationalConv2d(GRAPH, GRAPH, 16, 3),
        lambda: models.build(GRAPH, "mlp"),
        lambda: models.match_budget(GRAPH, "mlp"),
        lambda: relationalize(GRAPH, torch.nn.Linear(16, 16)),
        lambda: relationalize(SPEC, torch.nn.Linear(16, 16)),
        lambda: graphs.rewired(0, GRAPH),
        lambda: mpnn_arch.ChannelPartition(GRAPH, 16),
        lambda: as_graph(None),
    ],
)
def test_a_graph_in_the_wrong_place(call):
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_graph_of_another_library_names_its_conversion():
    data = Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    for given, words in ((nx.path_graph(3), "from_networkx"), (data, "from_edge_index")):
        for take in (lambda g: RelationalLinear(g, 8, 8), graphs.measure):
            with pytest.raises(InputError, match=f"convert it by RelationalGraph.{words}"):
                take(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.eye(4), "convert it by RelationalGraph.from_adjacency"),
        (torch.ones(2, 9), "convert it by RelationalGraph.from_edge_index"),
        ([(0, 1), (1, 2)], "RelationalGraph.from_networkx"),
        ({0: [1], 1: [0]}, "RelationalGraph.from_networkx"),
        ("data/brain.csv", "as in 'file:data/brain.csv'"),
    ],
)
def test_what_describes_a_graph_names_what_makes_one(given, words):
    with pytest.raises(InputError, match=words):
        RelationalLinear(given, 8, 8)
