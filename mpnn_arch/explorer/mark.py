"""A small picture of a graph as SVG, without matplotlib, which takes a second to import."""

from __future__ import annotations

import math

from mpnn_arch.graphs.generators.ws_flex import ws_flex
from mpnn_arch.graphs.relational_graph import RelationalGraph

# What the page is about, below its title.
INTRO = (
    "Each node of a graph holds a share of the layer's channels. In a round it receives a message "
    "along every edge, the sender's share times that edge's own weight matrix, and applies a "
    "nonlinearity \u03c3 to their sum."
)
_BLUE, _GREY = "#0072B2", "#8a94a3"


def mark(graph: RelationalGraph, size: int = 56) -> str:
    """``graph`` as a square SVG: nodes on a circle, a line for every edge.

    Args:
        graph: self-loops are left out; of two directions one line is drawn.
        size: pixels a side.
    """
    n, middle = graph.num_nodes, size / 2
    turns = [2 * math.pi * v / n - math.pi / 2 for v in range(n)]
    room = 0.42 * size
    at = [(middle + room * math.cos(turn), middle + room * math.sin(turn)) for turn in turns]
    pairs = sorted({(min(u, v), max(u, v)) for u, v in graph.edges.T.tolist() if u != v})
    path = "".join(
        f"M{at[u][0]:.1f} {at[u][1]:.1f}L{at[v][0]:.1f} {at[v][1]:.1f}" for u, v in pairs
    )
    radius = min(0.07 * size, 1.1 * size / n)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>' for x, y in at)
    return (
        f'<svg viewBox="0 0 {size} {size}" width="{size}" height="{size}" aria-hidden="true" '
        f'style="min-width: {size}px">'
        f'<path d="{path}" stroke="{_GREY}" fill="none"/><g fill="{_BLUE}">{dots}</g></svg>'
    )


def title_mark() -> str:
    """The picture beside the page's title: a small world."""
    return mark(ws_flex(12, 4, 0.2, seed=1))
