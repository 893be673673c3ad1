"""Graphs for the tests of the models."""

from collections.abc import Callable

import numpy as np
import pytest

from mpnn_arch import RelationalGraph


@pytest.fixture
def random_graph() -> Callable[..., RelationalGraph]:
    """random_graph(num_nodes, density, seed=0): undirected, self-loops added."""

    def make(num_nodes: int, density: float, seed: int = 0) -> RelationalGraph:
        drawn = np.random.default_rng(seed).random((num_nodes, num_nodes)) < density
        return RelationalGraph.from_adjacency(np.triu(drawn, 1).astype(int))

    return make


@pytest.fixture
def complete_graph() -> Callable[[int], RelationalGraph]:
    """complete_graph(num_nodes)"""
    return lambda n: RelationalGraph.from_adjacency(np.ones((n, n), dtype=int))
