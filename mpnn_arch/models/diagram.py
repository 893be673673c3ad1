"""A diagram of a model as rounds on its graph."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import nn

from mpnn_arch.errors import InputError
from mpnn_arch.io.figures import new_figure
from mpnn_arch.models.complexity import complexity
from mpnn_arch.rounds import MessageRound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DENSE, _NODE, _EDGE = "#c9d3df", "#2b6cb0", "#7a8899"


def diagram(model: nn.Module) -> Figure:
    """Draw ``model``: rounds from left to right, nodes from top to bottom, messages as edges.

    Consecutive rounds on the same graph are drawn once, with their number and widths below. Dense
    layers before the first round and after the last are grey boxes. Projection shortcuts are left
    out.

    Returns:
        A matplotlib figure; ``figure.savefig(path)`` writes it.

    Raises:
        InputError: the model has no round, or matplotlib is not installed.
    """
    groups = _groups(model)
    if not groups:
        raise InputError(
            f"{type(model).__name__} has no rounds to draw; build it on a graph, as "
            "models.build(name, graph)"
        )
    figure = new_figure(2.4 + 2.1 * len(groups), 4.2)
    from matplotlib.collections import LineCollection
    from matplotlib.patches import FancyBboxPatch

    ax = figure.subplots()

    def box(x: float, label: str) -> None:
        ax.add_patch(
            FancyBboxPatch(
                (x - 0.16, 0), 0.32, 1, boxstyle="round,pad=0.02", facecolor=_DENSE, linewidth=0
            )
        )
        ax.text(x, 0.5, label, rotation=90, ha="center", va="center", fontsize=9)

    box(-0.5, "dense stem")
    for column, rounds in enumerate(groups):
        graph = rounds[0].graph
        n = graph.num_nodes
        height = [1 - (v + 0.5) / n for v in range(n)]
        start, end = column + 0.08, column + 0.8
        lines = [[(start, height[u]), (end, height[v])] for u, v in graph.edges.T.tolist()]
        ax.add_collection(
            LineCollection(lines, colors=_EDGE, linewidths=0.5, alpha=min(0.8, 120 / len(lines)))
        )
        for x, partition in ((start, rounds[0].in_partition), (end, rounds[-1].out_partition)):
            area = [90 / n * size / partition.largest * 4 for size in partition.sizes]
            ax.scatter([x] * n, height, s=area, color=_NODE, zorder=3)
        times = f"{len(rounds)} rounds" if len(rounds) > 1 else "1 round"
        widths = f"{rounds[0].in_channels} $\\to$ {rounds[-1].out_channels} channels"
        ax.text(column + 0.44, -0.05, f"{times}\n{widths}", ha="center", va="top", fontsize=9)
    box(len(groups) + 0.4, "dense head")
    name = getattr(model, "config", {}).get("model", type(model).__name__)
    ax.set_title(f"{name}{_cost(model)}", fontsize=10)
    ax.set_xlim(-0.8, len(groups) + 0.7)
    ax.set_ylim(-0.2, 1.05)
    ax.set_axis_off()
    return figure


def _groups(model: nn.Module) -> list[list[Any]]:
    """Consecutive rounds of one stage on one graph."""
    named = [
        (name, part)
        for name, part in model.named_modules()
        # A round without its own graph gets one with every input: nothing to draw.
        if isinstance(part, MessageRound)
        and part.graph is not None
        and "shortcut" not in name.split(".")
    ]

    def place(item: tuple[str, Any]) -> tuple[str, str]:
        name, part = item
        parts = name.split(".")
        # Stages have their own column; the blocks of one width share it.
        stage = parts[1] if parts[0] == "stages" and len(parts) > 1 else ""
        return stage, part.graph.content_hash if part.graph else ""

    return [[part for _, part in items] for _, items in groupby(named, key=place)]


def _cost(model: nn.Module) -> str:
    try:
        return f": {complexity(model).multiply_adds:,} multiply-adds"
    except InputError:  # the input size of a user's module is unknown
        return ""
