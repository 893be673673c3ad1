"""Pictures of relational graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYOUTS = ("ring", "spring", "matrix")


def draw(
    graph: RelationalGraph,
    layout: str = "ring",
    ax: Axes | None = None,
    *,
    seed: int = 0,
    **style: Any,
) -> Axes:
    """Draw ``graph`` and return the axes; see :meth:`RelationalGraph.draw`.

    Raises:
        InputError: no such layout.
    """
    if layout not in LAYOUTS:
        raise InputError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(4, 4))
    if layout == "matrix":
        ax.imshow(graph.adjacency, **{"cmap": "Blues", "interpolation": "nearest"} | style)
        ax.set_xlabel("source node")
        ax.set_ylabel("target node")
        return ax

    import networkx as nx

    drawn = graph.to_networkx()
    drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
    place = nx.circular_layout(drawn) if layout == "ring" else nx.spring_layout(drawn, seed=seed)
    plain = {
        "node_size": max(8, 1200 / graph.num_nodes),
        "node_color": "#2b6cb0",
        "edge_color": "#9aa5b1",
        "width": min(1.0, 40 / max(1, graph.num_nodes)),
        "with_labels": False,
    }
    nx.draw_networkx(drawn, pos=place, ax=ax, **plain | style)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax
