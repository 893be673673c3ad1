"""The formula of a round's cost, compared with a sum over its edges."""

import numpy as np
import pytest

from mpnn_arch import ChannelPartition, RelationalGraph
from mpnn_arch.models.round_cost import RoundCost


@pytest.mark.parametrize("order", ["first", "published"])
@pytest.mark.parametrize("directed", [False, True])
def test_formula_is_the_sum_over_edges(order: str, directed: bool) -> None:
    drawn = np.random.default_rng(0).random((13, 13)) < 0.3
    graph = RelationalGraph.from_adjacency(drawn.astype(int), directed=directed)
    cost = RoundCost(graph, order)  # type: ignore[arg-type]
    for in_channels in (13, 14, 20, 25, 26, 100):
        for out_channels in (13, 19, 39, 77):
            size_in = ChannelPartition(in_channels, 13, order).sizes  # type: ignore[arg-type]
            size_out = ChannelPartition(out_channels, 13, order).sizes  # type: ignore[arg-type]
            by_hand = sum(size_out[v] * size_in[u] for u, v in graph.edges.T.tolist())
            assert cost.multiply_adds(in_channels, out_channels) == by_hand


@pytest.mark.parametrize("num_nodes", [1, 2, 7, 16, 30, 52, 64, 71])
def test_larger_shares_lie_where_the_partition_puts_them(num_nodes: int) -> None:
    """A graph with one single edge shows the two shares at its ends."""
    edge = [[num_nodes - 1], [num_nodes // 2]]
    loops = [list(range(num_nodes))] * 2
    graph = RelationalGraph(num_nodes, np.concatenate([edge, loops], axis=1), directed=True)
    cost = RoundCost(graph, "published")
    for channels in range(num_nodes, 3 * num_nodes):
        sizes = ChannelPartition(channels, num_nodes, "published").sizes
        by_hand = sum(sizes[v] * sizes[u] for u, v in graph.edges.T.tolist())
        assert cost.multiply_adds(channels, channels) == by_hand
