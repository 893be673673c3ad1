"""Drawing relational graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

LAYOUTS = ("ring", "spring", "matrix")


def draw(
    graph: nx.Graph,
    layout: str = "ring",
    ax: Axes | None = None,
    *,
    seed: int = 0,
    **style: Any,
) -> Axes:
    """Draw a networkx graph and return the axes; see :meth:`RelationalGraph.draw`.

    Raises:
        InputError: no such layout.
    """
    if layout not in LAYOUTS:
        raise InputError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    import networkx as nx

    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(4, 4))
    if layout == "matrix":
        adjacency = nx.to_numpy_array(graph, dtype=bool).T  # row = target
        ax.imshow(adjacency, **{"cmap": "Blues", "interpolation": "nearest"} | style)
        ax.set_xlabel("source node")
        ax.set_ylabel("target node")
        return ax

    drawn = graph.copy()
    drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
    place = nx.circular_layout(drawn) if layout == "ring" else nx.spring_layout(drawn, seed=seed)
    defaults = {
        "node_size": max(8, 1200 / len(graph)),
        "node_color": "#2b6cb0",
        "edge_color": "#9aa5b1",
        "width": min(1.0, 40 / max(1, len(graph))),
        "with_labels": False,
    }
    nx.draw_networkx(drawn, pos=place, ax=ax, **defaults | style)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax
