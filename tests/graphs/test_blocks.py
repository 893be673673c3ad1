"""Stochastic blocks: every pair of nodes is an edge with the probability of its blocks."""

from random import Random

import numpy as np

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.generators.blocks import stochastic_blocks


def test_every_pair_has_the_probability_of_its_blocks():
    sizes, probability = [4, 6], np.array([[0.5, 0.1], [0.1, 0.3]])
    block = np.repeat([0, 1], sizes)
    expected = probability[block[:, None], block]
    stream, draws = Random(0), 4000
    found = np.zeros((10, 10))
    for _ in range(draws):
        found[tuple(np.array(stochastic_blocks(sizes, probability, stream).edges).T)] += 1
    found = (found + found.T) / draws
    deviation = np.sqrt(expected * (1 - expected) / draws)
    pairs = np.triu_indices(10, 1)
    assert np.abs((found - expected) / deviation)[pairs].max() < 4.5
    assert not found.diagonal().any()


def test_probabilities_of_one_zero_and_next_to_zero():
    full = stochastic_blocks([3, 2], [[1, 0], [0, 1]], Random(0))
    assert sorted(map(sorted, full.edges)) == [[0, 1], [0, 2], [1, 2], [3, 4]]
    assert stochastic_blocks([4, 1], [[5e-324, 1e-300], [1e-300, 1]], Random(0)).size() == 0
    assert stochastic_blocks([2, 3], [[0, 1], [1, 0]], Random(0)).size() == 6


def test_the_work_is_that_of_the_edges_and_not_of_the_pairs():
    # 5e11 pairs, through which a walk would take hours.
    drawn = stochastic_blocks([10**6, 4], [[1e-11, 0], [0, 1]], Random(0))
    assert 6 <= drawn.size() < 50
    assert RelationalGraph.from_networkx(drawn.subgraph(range(10**6, 10**6 + 4))).num_edges == 6
