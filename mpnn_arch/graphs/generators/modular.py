"""Modular graphs: stochastic blocks, dense within and sparse between."""

from __future__ import annotations

from random import Random
from typing import Any

from mpnn_arch.checks import check_whole
from mpnn_arch.graphs.generators.blocks import stochastic_blocks
from mpnn_arch.graphs.generators.connected import connected
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import (
    check_isolated,
    check_num_nodes,
    check_probability,
    check_size,
)
from mpnn_arch.graphs.relational_graph import RelationalGraph


@GENERATORS.register("modular")
def modular(
    num_nodes: int,
    num_modules: int,
    within_probability: float = 0.5,
    between_probability: float = 0.05,
    seed: int = 0,
) -> RelationalGraph:
    """A stochastic block model of ``num_modules`` blocks whose sizes differ by one at most.

    Args:
        num_nodes: N.
        num_modules: in [1, N]; the first (N mod num_modules) blocks have one more node.
        within_probability: of an edge between two nodes of a block.
        between_probability: of an edge between nodes of two blocks.
        seed: of the random stream.

    Raises:
        InputError: a value outside its range, or no connected graph in 100 tries.

    Source: Holland, Laskey, Leinhardt, Stochastic blockmodels, Social Networks 1983.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.modular(num_nodes=16, num_modules=4, seed=0)
        >>> graphs.measure(graph, ["modularity"]).round(2)
           modularity
        0        0.45
    """
    num_nodes = check_num_nodes(num_nodes)
    num_modules = check_whole("num_modules", num_modules, 1, num_nodes)
    within = check_probability("within_probability", within_probability)
    between = check_probability("between_probability", between_probability)
    small, larger = divmod(num_nodes, num_modules)
    pairs_within = num_modules * small * (small - 1) / 2 + larger * small
    pairs_between = num_nodes * (num_nodes - 1) / 2 - pairs_within
    # The number of pairs of modules counts too: each has its own probability.
    check_size(
        "modular", num_nodes + num_modules**2, pairs_within * within + pairs_between * between
    )
    check_isolated(
        f"modular of {num_nodes:,} nodes in {num_modules:,} modules",
        num_nodes * (1 - within) ** small * (1 - between) ** (num_nodes - small),
    )
    sizes = [small + 1] * larger + [small] * (num_modules - larger)
    probability = [
        [within if a == b else between for b in range(num_modules)] for a in range(num_modules)
    ]

    def draw(stream: Random) -> Any:
        return stochastic_blocks(sizes, probability, stream)

    return connected(draw, seed, f"modular of {num_nodes} nodes in {num_modules} modules")
