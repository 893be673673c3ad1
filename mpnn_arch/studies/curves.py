"""A figure of a study: test error against epochs, and the graphs that were trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.io.figures import COLOURS, new_figure, plain, save_figure
from mpnn_arch.studies.metrics import MetricsRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# At most this many graphs are drawn next to the curves.
MOST_DRAWN = 4


def plot_curves(
    path: Path,
    title: str,
    graphs: Sequence[tuple[str, RelationalGraph, str]],
    rows: Sequence[MetricsRow],
) -> None:
    """Write the figure as PNG, atomically.

    A line is the mean over seeds; its band spans the best to the worst seed.

    Args:
        path: the file.
        title: of the figure.
        graphs: for each graph its name in ``rows``, the graph, and a caption.
        rows: metrics of every epoch.

    Raises:
        InputError: matplotlib is not installed.
    """
    drawn = list(graphs)[:MOST_DRAWN]
    figure = new_figure(10, 4.8)
    grid = figure.add_gridspec(len(drawn), 2, width_ratios=(2.4, 1))
    curves = figure.add_subplot(grid[:, 0])
    by_line: dict[tuple[str, str | None, str], list[MetricsRow]] = {}
    for row in rows:
        by_line.setdefault((row.graph, row.message, row.aggr), []).append(row)
    swapped = len({key[1:] for key in by_line}) > 1
    colours = {name: COLOURS[place % len(COLOURS)] for place, (name, *_) in enumerate(graphs)}
    for place, ((name, message, aggr), mine) in enumerate(by_line.items()):
        label = f"{name}, {message or 'own message'}, {aggr}" if swapped else name
        colour = COLOURS[place % len(COLOURS)] if swapped else colours.get(name, COLOURS[0])
        _draw_curve(curves, label, mine, colour)
    curves.set_title(plain(title), loc="left", fontweight="bold")
    curves.set_xlabel("epoch")
    curves.set_ylabel("test error (%)")
    _style_error_axis(curves)
    curves.legend(frameon=False, title="mean, best to worst seed", alignment="left")
    for place, (name, graph, caption) in enumerate(drawn):
        axes = figure.add_subplot(grid[place, 1])
        _draw_graph(axes, graph, "0.3" if swapped else colours[name])
        axes.set_title(plain(f"{name}\n{caption}"), fontsize=8.5)
    save_figure(figure, path)


def _draw_curve(axes: Axes, name: str, rows: Sequence[MetricsRow], colour: str) -> None:
    by_epoch: dict[int, list[float]] = {}
    for row in rows:
        if not math.isnan(row.test_error):
            by_epoch.setdefault(row.epoch, []).append(row.test_error)
    if not by_epoch:
        return
    epochs = sorted(by_epoch)
    errors = [by_epoch[epoch] for epoch in epochs]
    axes.fill_between(
        epochs, [min(e) for e in errors], [max(e) for e in errors], color=colour, alpha=0.18, lw=0
    )
    mean = [float(np.mean(e)) for e in errors]
    axes.plot(epochs, mean, color=colour, lw=2, label=plain(f"{name}: {mean[-1]:.2f} %"))
    axes.plot(epochs[-1:], mean[-1:], "o", color=colour, ms=5)


def _style_error_axis(axes: Axes) -> None:
    """A logarithmic axis with decimal labels; a linear one if some error is 0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    lows = [float(np.min(line.get_ydata())) for line in axes.get_lines()]  # type: ignore[arg-type]
    if lows and min(lows) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_graph(axes: Axes, graph: RelationalGraph, colour: str) -> None:
    from matplotlib.colors import to_rgba

    # The more edges, the fainter each, so that the drawing stays readable.
    alpha = float(np.clip(100 / max(1, graph.num_edges), 0.03, 0.7))
    faint = [to_rgba(colour, alpha)]
    graph.draw(ax=axes, node_color=colour, edge_color=faint, node_size=8, width=0.7)
