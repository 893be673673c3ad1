"""Random graphs with the degrees and the clustering of a given one."""

from random import Random

import networkx as nx
import numpy as np
import pytest

from mpnn_arch import InputError
from mpnn_arch.graphs import RelationalGraph, generate, parse, rewired, rewired_to_clustering
from mpnn_arch.graphs.null_models import _ClusteringSearch


@pytest.mark.parametrize("degree", [5, 8.5, 12])
def test_degrees_and_clustering_stay_and_the_rest_changes(degree):
    graph = generate("ws_flex", 64, degree, 0.1, 0)
    null = rewired_to_clustering(graph, seed=1)
    assert (null.degrees == graph.degrees).all()
    drawn = null.to_networkx()
    drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
    assert nx.average_clustering(drawn) == pytest.approx(graph.clustering_coefficient, abs=0.005)
    assert nx.is_connected(drawn)
    kept = (null.adjacency & graph.adjacency).sum() - 64
    assert kept < graph.degrees.sum() / 2
    assert null.has_self_loops
    assert rewired_to_clustering(graph, seed=1) == null
    assert rewired_to_clustering(graph, seed=2) != null


def test_a_target_of_its_own_up_and_down():
    graph = generate("ba", 50, 4, 0)
    for target in (0.1, 0.4):
        null = rewired_to_clustering(graph, target, tolerance=0.01, seed=3)
        assert null.clustering_coefficient == pytest.approx(target, abs=0.01)
        assert (null.degrees == graph.degrees).all()


def test_the_running_clustering_is_the_graphs():
    graph = rewired(generate("ws_flex", 30, 6, 0.2, 0))
    search = _ClusteringSearch(graph, Random(0))
    search.run(1.0, 1e-9, 2000)
    edges = sorted((u, v) for u, near in enumerate(search.near) for v in near if u < v)
    assert edges == sorted((min(e), max(e)) for e in search.edges)
    after = RelationalGraph(30, np.array(edges).T)
    assert search.clustering == pytest.approx(after.clustering_coefficient, abs=1e-12)
    assert after.clustering_coefficient > graph.clustering_coefficient + 0.1


def test_a_dense_graph_is_rewired_through_its_complement():
    graph = generate("ws_flex", 30, 26.5, 0.3, 0)
    null = rewired(graph, seed=0)
    assert null != graph
    assert (null.degrees == graph.degrees).all()
    # About all that is free moves: 20 edges are missing, and a random draw repeats few of them.
    missing = ~graph.adjacency
    assert 0 < missing.sum() / 2 < 60
    assert (missing & ~null.adjacency).sum() < missing.sum() / 2
    assert rewired(graph, seed=0, swaps=0) == graph
    clustered = rewired_to_clustering(graph, seed=0)
    assert (clustered.degrees == graph.degrees).all()


@pytest.mark.parametrize("null", ["rewired", "rewired_to_clustering"])
def test_a_spec_names_the_nulls_of_another_spec(null):
    make = {"rewired": rewired, "rewired_to_clustering": rewired_to_clustering}[null]
    graph = generate("ws_flex", 30, 6, 0.1, 2)
    assert parse(f"{null}:5/ws_flex:30,6,0.1,2") == [make(graph, seed=5)]
    assert parse(f"{null}:1/sample:16/48/2:4") == [
        make(each, seed=1) for each in parse("sample:16/48/2:4")
    ]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("rewired:ws_flex:30,6,0.1", "write rewired:SEED/SPEC"),
        ("rewired:1/", "write rewired:SEED/SPEC"),
        ("rewired:-1/ring:8,4", "write rewired:SEED/SPEC"),
        ("rewired:0/rewired:1/ring:8,4", "name the graph"),
        ("rewired:0/ring:8,x", "is not a number"),
        ("rewired:0/complete:6", r"few other graphs have its degrees \(in the graph of its m"),
        ("rewired:0/star:6", r"no or few other graphs have its degrees \(Maximum"),
    ],
)
def test_a_wrong_spec_of_a_null_is_one_sentence(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(spec)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda g: rewired_to_clustering("ring"), "'ring' lacks parameters"),
        (lambda g: rewired_to_clustering(g, 0.99, swaps=500), "was reached by 500 swaps"),
        (lambda g: rewired_to_clustering(g, 1.5), "clustering lies between 0 and 1"),
        (lambda g: rewired_to_clustering(g, 0.5, 0.0), "tolerance lies between"),
        (lambda g: rewired_to_clustering(generate("complete", 6)), "cannot be rewired"),
        (
            lambda g: rewired_to_clustering(
                RelationalGraph(3, [[0, 1, 2], [1, 2, 0]], directed=True)
            ),
            "directed",
        ),
    ],
)
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(generate("ws_flex", 30, 6, 0.2, 0))
