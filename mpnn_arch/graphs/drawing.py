"""Drawing relational graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpnn_arch.checks import check_choice, check_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mpnn_arch.graphs.relational_graph import RelationalGraph

LAYOUTS = ("ring", "spring", "matrix", "degrees")

LARGEST_DRAWN = 2000
"""Above this many nodes circles and lines are one grey disc, so the degrees are drawn instead."""


def draw(
    graph: RelationalGraph,
    layout: str = "ring",
    ax: Axes | None = None,
    *,
    seed: int = 0,
    **style: Any,
) -> Axes:
    """Draw a graph and return the axes; see :meth:`RelationalGraph.draw`.

    Raises:
        InputError: no such layout, or a seed outside [0, 2^32).
    """
    check_choice("layout", layout, LAYOUTS)
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    import networkx as nx

    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(4, 4))
    if layout == "degrees" or graph.num_nodes > LARGEST_DRAWN:
        return _draw_degrees(graph, ax, **(style if layout == "degrees" else {}))
    if layout == "matrix":
        ax.imshow(graph.adjacency, **{"cmap": "Blues", "interpolation": "nearest"} | style)
        ax.set_xlabel("source node")
        ax.set_ylabel("target node")
        return ax

    drawn = graph.to_networkx()
    drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
    place = nx.circular_layout(drawn) if layout == "ring" else nx.spring_layout(drawn, seed=seed)
    defaults = {
        "node_size": max(8, 1200 / graph.num_nodes),
        "node_color": "#2b6cb0",
        "edge_color": "#9aa5b1",
        "width": min(1.0, 40 / graph.num_nodes),
        "with_labels": False,
    }
    nx.draw_networkx(drawn, pos=place, ax=ax, **defaults | style)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _draw_degrees(graph: RelationalGraph, ax: Axes, **style: Any) -> Axes:
    """The number of nodes of each degree, both axes logarithmic, as is usual for large networks."""
    count = np.bincount(graph.degrees)
    degree = np.flatnonzero(count)
    ax.plot(degree, count[degree], **{"marker": "o", "linestyle": "", "color": "#2b6cb0"} | style)
    # Degree 0 has no place on a logarithmic axis; this one is linear from 0 to 1.
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("log")
    ax.set_xlabel("in-degree" if graph.is_directed else "degree")
    ax.set_ylabel("number of nodes")
    return ax
