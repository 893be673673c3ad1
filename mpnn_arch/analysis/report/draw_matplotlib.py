"""Charts as PNG and SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpnn_arch.analysis.report.chart import Bars, Chart, Heat, Line, Points, Rectangle
from mpnn_arch.io.figures import COLOURS, lay_out, new_figure, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")


def save_chart(chart: Chart, folder: Path) -> list[Path]:
    """Write the chart in every format, each file atomically; return the paths."""
    figure = new_figure(*chart.size)
    axes = figure.add_subplot()
    draw_chart(chart, axes)
    # Of the figure, not of the axes, which long names of bars push to the right.
    figure.suptitle(plain(chart.title), x=0.01, ha="left", fontsize=9, fontweight="bold")
    paths = [folder / f"{chart.name}.{ending}" for ending in FORMATS]
    lay_out(figure)
    for path in paths:
        save_figure(figure, path)
    return paths


def draw_chart(chart: Chart, axes: Axes) -> None:
    """Draw the chart into ``axes``."""
    colours = iter(COLOURS * 3)
    sides = [layer for layer in chart.layers if isinstance(layer, Bars)]
    for layer in chart.layers:
        if isinstance(layer, Heat):
            _heat(axes, layer)
        elif isinstance(layer, Points):
            _points(axes, layer, next(colours))
        elif isinstance(layer, Line):
            _line(axes, layer, next(colours))
        elif isinstance(layer, Rectangle):
            _rectangle(axes, layer, next(colours))
        else:
            _bars(axes, layer, sides.index(layer), len(sides), next(colours))
    if chart.log_x:
        from matplotlib.ticker import LogLocator, NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    heat = any(isinstance(layer, Heat) for layer in chart.layers)
    if not heat:
        axes.grid(True, color="0.92", lw=0.8)
        axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[1]:
        # No connected graph has a small C and a large L: that corner of the plane is empty.
        place = "upper left" if heat else "best"
        axes.legend(loc=place, fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")


def _heat(axes: Axes, layer: Heat) -> None:
    low, high = layer.limits
    # An image, not a mesh: 18,225 bins would be 18,225 paths of the SVG.
    image = axes.imshow(
        np.ma.masked_invalid(layer.values),
        origin="lower",
        extent=(layer.x_edges[0], layer.x_edges[-1], layer.y_edges[0], layer.y_edges[-1]),
        aspect="auto",
        interpolation="nearest",
        cmap="PuOr_r" if layer.diverging else "viridis_r",
        vmin=low,
        vmax=high,
    )
    bar = axes.figure.colorbar(image, ax=axes, extend="both" if layer.diverging else "max")
    bar.set_label(layer.label)


def _error_bars(layer: Points | Bars, values: np.ndarray) -> np.ndarray | None:
    if layer.low is None or layer.high is None:
        return None
    bars = np.stack([values - np.asarray(layer.low), np.asarray(layer.high) - values])
    return np.nan_to_num(bars).clip(min=0)


def _points(axes: Axes, layer: Points, colour: str) -> None:
    x, y = np.asarray(layer.x, dtype=float), np.asarray(layer.y, dtype=float)
    style: dict[str, Any] = {"s": 90, "marker": "*", "zorder": 5, "edgecolors": "white"}
    if not layer.large:
        # Thousands of points: drawn as an image within the SVG.
        style = {"s": 16 if len(x) < 200 else 5, "alpha": 0.8 if len(x) < 200 else 0.35}
        style |= {"linewidths": 0, "rasterized": len(x) > 200}
    axes.scatter(x, y, color=colour, label=plain(layer.label) or None, **style)
    bars = _error_bars(layer, y)
    if bars is not None:
        axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)


def _line(axes: Axes, layer: Line, colour: str) -> None:
    axes.plot(
        layer.x,
        layer.y,
        color=colour,
        lw=1.8,
        ls="--" if layer.dashed else "-",
        label=plain(layer.label) or None,
        marker="o" if len(layer.x) < 15 else None,
        ms=4,
    )
    if layer.low is not None and layer.high is not None:
        axes.fill_between(layer.x, layer.low, layer.high, color=colour, alpha=0.18, lw=0)


def _rectangle(axes: Axes, layer: Rectangle, colour: str) -> None:
    from matplotlib.patches import Rectangle as Patch

    corner = (layer.x[0], layer.y[0])
    size = (layer.x[1] - layer.x[0], layer.y[1] - layer.y[0])
    style: dict[str, Any] = {"ls": "--" if layer.dashed else "-", "lw": 2, "zorder": 4}
    axes.add_patch(Patch(corner, *size, fill=False, ec=colour, label=plain(layer.label), **style))


def _bars(axes: Axes, layer: Bars, place: int, of: int, colour: str) -> None:
    values = np.asarray(layer.values, dtype=float)
    height = 0.8 / of
    at = np.arange(len(values)) + (place - (of - 1) / 2) * height
    bars = _error_bars(layer, values)
    axes.barh(
        at, values, height, color=colour, label=plain(layer.label) or None, xerr=bars, ecolor="0.4"
    )
    if place == 0:
        axes.set_yticks(range(len(values)), [plain(name) for name in layer.names], fontsize=8)
        axes.invert_yaxis()
