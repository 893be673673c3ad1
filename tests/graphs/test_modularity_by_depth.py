"""Modularity of a graph unrolled over rounds: against the unrolled graph, and known limits."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from mpnn_arch import InputError
from mpnn_arch.graphs import RelationalGraph, generate, measure
from mpnn_arch.graphs.measures import GraphBatch
from mpnn_arch.graphs.measures.modularity import modularity_by_depth


def unrolled(graph, rounds):
    """Q_R by following every path of messages through the layers of the unrolled graph."""
    (communities,) = GraphBatch.of([graph]).communities
    home = {node: place for place, nodes in enumerate(communities) for node in nodes}
    near = {v: [*map(int, np.flatnonzero(graph.adjacency[v]))] for v in range(graph.num_nodes)}
    assert all(v in near[v] for v in near)
    ends = sum(map(len, near.values()))
    stays, chance = 0.0, 0.0
    for start in near:
        layer = {start: len(near[start]) / ends}
        for _ in range(rounds):
            after = dict.fromkeys(near, 0.0)
            for node, share in layer.items():
                for other in near[node]:
                    after[other] += share / len(near[node])
            layer = after
        stays += sum(share for node, share in layer.items() if home[node] == home[start])
        chance += sum(
            len(near[start]) * len(near[node]) / ends**2
            for node in near
            if home[node] == home[start]
        )
    return stays - chance


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
def test_it_is_the_walk_through_the_unrolled_graph(rounds):
    for seed in range(3):
        graph = generate("ws_flex", 20, 5, 0.1, seed)
        found = modularity_by_depth(GraphBatch.of([graph]), rounds)
        assert found == pytest.approx([unrolled(graph, rounds)], abs=1e-12)


def test_one_round_is_newmans_modularity_with_self_loops():
    graph = generate("ws_flex", 30, 6, 0.05, 0)
    batch = GraphBatch.of([graph])
    drawn = batch.drawn[0].to_directed()  # networkx counts a loop of a directed graph once
    drawn.add_edges_from((node, node) for node in range(30))
    expected = nx.community.modularity(drawn, batch.communities[0])
    assert modularity_by_depth(batch, 1) == pytest.approx([expected])


def test_depth_mixes_communities_unless_they_are_apart():
    ring = generate("ring", 64, 4)
    depths = [modularity_by_depth(GraphBatch.of([ring]), r)[0] for r in (1, 2, 4, 8, 64, 4000)]
    assert all(more > less for more, less in pairwise(depths))
    assert depths[-1] == pytest.approx(0, abs=1e-3)
    cliques = RelationalGraph.from_adjacency(np.kron(np.eye(2), np.ones((5, 5))))
    for rounds in (1, 7, 500):
        assert modularity_by_depth(GraphBatch.of([cliques]), rounds) == pytest.approx([0.5])
    assert measure(generate("complete", 8), ["modularity_by_depth"]).iloc[0, 0] == pytest.approx(0)


def test_bad_input_is_one_sentence():
    batch = GraphBatch.of([generate("ring", 8, 4)])
    with pytest.raises(InputError, match="rounds is between 1"):
        modularity_by_depth(batch, 0)
    one_way = RelationalGraph(3, [[0, 1, 2], [1, 2, 0]], directed=True)
    with pytest.raises(InputError, match="undirected"):
        measure(one_way, ["modularity_by_depth"])
