"""Core and periphery: a dense core, and outer nodes linked mostly to the core."""

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


@GENERATORS.register("core_periphery")
def core_periphery(
    num_nodes: int,
    core_size: int,
    core_probability: float = 0.9,
    periphery_probability: float = 0.05,
    cross_probability: float = 0.3,
    seed: int = 0,
) -> RelationalGraph:
    """A stochastic block model of two blocks; the first ``core_size`` nodes are the core.

    Args:
        num_nodes: N.
        core_size: in [1, N - 1].
        core_probability: of an edge between two core nodes.
        periphery_probability: of an edge between two outer nodes.
        cross_probability: of an edge between a core and an outer node.
        seed: of the random stream.

    Raises:
        InputError: a value outside its range, or no connected graph in 100 tries.

    Source: Borgatti and Everett, Models of core/periphery structures, Social Networks 2000.

    Example:
        >>> from mpnn_arch import graphs
        >>> degrees = graphs.core_periphery(num_nodes=16, core_size=4, seed=0).degrees
        >>> bool(degrees[:4].mean() > degrees[4:].mean())
        True
    """
    num_nodes = check_num_nodes(num_nodes)
    core_size = check_whole("core_size", core_size, 1, num_nodes - 1)
    core = check_probability("core_probability", core_probability)
    outer = check_probability("periphery_probability", periphery_probability)
    cross = check_probability("cross_probability", cross_probability)
    num_outer = num_nodes - core_size
    check_size(
        "core_periphery",
        num_nodes,
        core * core_size**2 / 2 + outer * num_outer**2 / 2 + cross * core_size * num_outer,
    )
    check_isolated(
        f"core_periphery of {num_nodes:,} nodes and {core_size:,} in the core",
        num_outer * (1 - outer) ** num_outer * (1 - cross) ** core_size
        + core_size * (1 - core) ** core_size * (1 - cross) ** num_outer,
    )

    def draw(stream: Random) -> Any:
        return stochastic_blocks([core_size, num_outer], [[core, cross], [cross, outer]], stream)

    return connected(draw, seed, f"core_periphery of {num_nodes} nodes and {core_size} in the core")
