"""A diagram of a model as rounds on its graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import nn

from mpnn_arch.checks import check_kind
from mpnn_arch.errors import InputError
from mpnn_arch.io.figures import new_figure
from mpnn_arch.models.complexity import complexity
from mpnn_arch.models.residuals import residual_spans
from mpnn_arch.rounds import MessageRound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DENSE, _NODE, _EDGE, _RESIDUAL = "#c9d3df", "#2b6cb0", "#7a8899", "#b7791f"


def diagram(model: nn.Module) -> Figure:
    """Draw ``model``: rounds from left to right, nodes from top to bottom, messages as edges.

    Consecutive rounds on the same graph are drawn once, with their number and widths below. Dense
    layers before the first round and after the last are grey boxes. Residual connections are arcs
    above the rounds that they skip, drawn once with their number, where rounds add them, as those
    of our own models do. Projection shortcuts are left out.

    Returns:
        A matplotlib figure; ``figure.savefig(path)`` writes it.

    Raises:
        InputError: the model has no round, or matplotlib is not installed.

    Example:
        >>> from mpnn_arch import graphs, models
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=128)
        >>> models.diagram(model).savefig("mlp.png")
    """
    check_kind("model", model, nn.Module, "give one")
    named = _groups(model)
    groups = [[part for _, part in items] for items in named]
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
    _draw_residuals(ax, model, [[name for name, _ in items] for items in named])
    name = getattr(model, "config", {}).get("model", type(model).__name__)
    ax.set_title(f"{name}{_cost(model)}", fontsize=10)
    ax.set_xlim(-0.8, len(groups) + 0.7)
    ax.set_ylim(-0.2, 1.4)
    ax.set_axis_off()
    return figure


def _groups(model: nn.Module) -> list[list[tuple[str, Any]]]:
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

    return [list(items) for _, items in groupby(named, key=place)]


def _draw_residuals(ax: Any, model: nn.Module, columns: list[list[str]]) -> None:
    from matplotlib.patches import FancyArrowPatch

    try:
        spans = residual_spans(model)
    except InputError:  # the input size of a user's module is unknown
        return
    column = {name: i for i, names in enumerate(columns) for name in names}
    # (columns of both ends) -> lengths in rounds, and how many connections have each
    arcs: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for span in spans:
        drawn = [column[name] for name in span if name in column]
        if drawn:
            arcs[drawn[0], drawn[-1]][len(drawn)] += 1
    for (first, last), lengths in arcs.items():
        start, end = first + 0.08, last + 0.8
        arc = FancyArrowPatch(
            (start, 1.02),
            (end, 1.02),
            connectionstyle=f"arc3,rad={-0.3 / (end - start) ** 0.5:.3f}",
            arrowstyle="-|>",
            mutation_scale=9,
            color=_RESIDUAL,
            linewidth=1.2,
        )
        ax.add_patch(arc)
        text = "\n".join(
            f"{n} $\\times$ residual over {k} round{'s' * (k > 1)}" for k, n in lengths.items()
        )
        ax.text((start + end) / 2, 1.17, text, ha="center", va="bottom", fontsize=8)


def _cost(model: nn.Module) -> str:
    try:
        return f": {complexity(model).multiply_adds:,} multiply-adds"
    except InputError:  # the input size of a user's module is unknown
        return ""
