"""Stochastic blocks: an edge between any two nodes has the probability of their two blocks.

networkx draws them too, but another graph from the same seed since its version 3.7, and it walks
through all pairs of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx


def stochastic_blocks(
    sizes: Sequence[int], probability: Sequence[Sequence[float]], stream: Random
) -> nx.Graph:
    """Draw a graph whose blocks hold consecutive nodes, in time proportional to its edges.

    Args:
        sizes: nodes of each block.
        probability: of an edge between a node of block a and one of block b >= a, ``[a][b]``.
        stream: of random numbers.
    """
    import networkx as nx

    drawn = nx.Graph()
    drawn.add_nodes_from(range(sum(sizes)))
    first = [0, *accumulate(sizes)]
    for a, size in enumerate(sizes):
        for pair in _successes(size * (size - 1) // 2, probability[a][a], stream):
            # Pairs (i, j < i) in the order of i: those before i are i (i - 1) / 2.
            i = (1 + math.isqrt(1 + 8 * pair)) // 2
            drawn.add_edge(first[a] + i, first[a] + pair - i * (i - 1) // 2)
        for b in range(a + 1, len(sizes)):
            for pair in _successes(size * sizes[b], probability[a][b], stream):
                i, j = divmod(pair, sizes[b])
                drawn.add_edge(first[a] + i, first[b] + j)
    return drawn


def _successes(trials: int, probability: float, stream: Random) -> Iterator[int]:
    """Which of many independent trials succeed, from the geometric gaps between them."""
    if probability >= 1:
        yield from range(trials)
    elif probability > 0:
        trial, rate = -1, math.log1p(-probability)
        while True:
            trial += 1 + int(min(math.log1p(-stream.random()) / rate, trials))
            if trial >= trials:
                return
            yield trial
