"""Curvature, entropy rate and core-periphery score, against plain computations and known graphs."""

import networkx as nx
import numpy as np
import pytest

from mpnn_arch import InputError
from mpnn_arch.graphs import RelationalGraph, generate, measure
from mpnn_arch.graphs.measures import GraphBatch, curvature

CURVATURES = ("forman_curvature", "augmented_forman_curvature", "ollivier_ricci_curvature")
NEW = (*CURVATURES, "entropy_rate", "core_periphery")
RANDOM = [generate("er", 14, 30, seed) for seed in range(3)]


def bare(graph):
    drawn = graph.to_networkx()
    drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
    return drawn


def by_flow(graph, u, v):
    """Curvature of an edge by a minimum-cost flow over the whole graph."""
    net = nx.DiGraph()
    for a, b in graph.edges:
        net.add_edge(a, b, weight=1)
        net.add_edge(b, a, weight=1)
    nx.set_node_attributes(net, 0, "demand")
    for node in graph[u]:
        net.nodes[node]["demand"] -= graph.degree[v]
    for node in graph[v]:
        net.nodes[node]["demand"] += graph.degree[u]
    return 1 - nx.min_cost_flow_cost(net) / (graph.degree[u] * graph.degree[v])


@pytest.mark.parametrize("units", [150, 0], ids=["assignment", "linear program"])
def test_ollivier_ricci_is_the_least_cost_flow(monkeypatch, units):
    monkeypatch.setattr(curvature, "_MOST_UNITS", units)
    for graph in RANDOM:
        drawn = bare(graph)
        expected = np.mean([by_flow(drawn, u, v) for u, v in drawn.edges])
        found = measure(graph, ["ollivier_ricci_curvature"]).iloc[0, 0]
        assert found == pytest.approx(expected, abs=1e-9)


def test_ollivier_ricci_of_known_graphs():
    def of(*spec):
        return measure(generate(*spec), ["ollivier_ricci_curvature"]).iloc[0, 0]

    assert of("complete", 9) == pytest.approx(7 / 8)
    assert of("ring", 12, 2) == pytest.approx(0)
    assert of("star", 7) == pytest.approx(0)
    inner = generate("tree", 22, 2)
    batch = GraphBatch.of([inner])
    # Between two nodes of degree 3 of a tree: -2 (1 - 1/3 - 1/3).
    degrees = batch.degrees[0]
    u, v = next((u, v) for u, v in bare(inner).edges if degrees[u] == degrees[v] == 3)
    found = curvature.edge_curvature(batch.adjacency[0], batch.distances[0], u, v)
    assert found == pytest.approx(-2 / 3)


def test_many_edges_are_drawn_and_close_to_all(monkeypatch):
    graph = generate("ws_flex", 40, 18, 0.3, 0)
    drawn = measure(graph, ["ollivier_ricci_curvature"]).iloc[0, 0]
    assert drawn == measure(graph, ["ollivier_ricci_curvature"]).iloc[0, 0]
    monkeypatch.setattr(curvature, "MOST_EDGES", 10**6)
    assert measure(graph, ["ollivier_ricci_curvature"]).iloc[0, 0] == pytest.approx(drawn, abs=0.02)


def test_forman_curvature_edge_by_edge():
    for graph in RANDOM:
        drawn = bare(graph)
        plain = [4 - drawn.degree[u] - drawn.degree[v] for u, v in drawn.edges]
        closed = [len(list(nx.common_neighbors(drawn, u, v))) for u, v in drawn.edges]
        found = measure(graph, CURVATURES[:2]).iloc[0]
        assert found["forman_curvature"] == pytest.approx(np.mean(plain))
        expected = np.mean(plain) + 3 * np.mean(closed)
        assert found["augmented_forman_curvature"] == pytest.approx(expected)


def test_entropy_rate_is_that_of_the_walk():
    for graph in RANDOM:
        step = nx.to_numpy_array(bare(graph))
        step = step[step.sum(1) > 0]
        degree = step.sum(1)
        step = step / degree[:, None]
        bits = -np.where(step > 0, step * np.log2(np.where(step > 0, step, 1)), 0).sum(1)
        expected = (degree / degree.sum()) @ bits
        assert measure(graph, ["entropy_rate"]).iloc[0, 0] == pytest.approx(expected)
    assert measure(generate("ring", 20, 8), ["entropy_rate"]).iloc[0, 0] == pytest.approx(3)
    assert measure(generate("star", 9), ["entropy_rate"]).iloc[0, 0] == pytest.approx(1.5)


def test_core_periphery_is_the_best_correlation_with_a_core():
    for graph in [*RANDOM, generate("ba", 20, 2, 0)]:
        linked, degree = graph.adjacency, graph.degrees
        pair = np.triu_indices(graph.num_nodes, 1)
        scores = [0.0]
        for least in range(int(degree.min()) + 1, int(degree.max()) + 1):
            core = degree >= least
            ideal = (core[:, None] | core[None, :])[pair]
            if 0 < ideal.sum() < len(ideal):
                scores.append(np.corrcoef(linked[pair], ideal)[0, 1])
        assert measure(graph, ["core_periphery"]).iloc[0, 0] == pytest.approx(max(scores))
    assert measure(generate("star", 9), ["core_periphery"]).iloc[0, 0] == pytest.approx(1)
    for flat in (generate("ring", 12, 4), generate("complete", 8)):
        assert measure(flat, ["core_periphery"]).iloc[0, 0] == 0


def test_without_an_edge_and_directed():
    empty = RelationalGraph(4, [[], []])
    assert measure(empty, NEW[:4]).isna().all(axis=None)
    cycle = RelationalGraph(3, [[0, 1, 2], [1, 2, 0]], directed=True)
    for name in NEW:
        with pytest.raises(InputError, match="directed"):
            measure(cycle, [name])
