"""The page's two figures, as SVG: the plane of C and L, and test errors while training."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from mpnn_arch.errors import InputError
from mpnn_arch.explorer.measured import Landscape
from mpnn_arch.graphs.lists import sample
from mpnn_arch.graphs.measures.batch import GraphBatch
from mpnn_arch.graphs.measures.clustering import clustering_coefficient
from mpnn_arch.graphs.measures.path_length import average_path_length
from mpnn_arch.graphs.relational_graph import RelationalGraph

if TYPE_CHECKING:
    from mpnn_arch.studies.metrics import MetricsRow

WIDTH, HEIGHT = 420, 320
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 42, 14, 12
_MOST_LETTERS = 52  # of a label, which is as wide as the figure
# Okabe and Ito's blue and vermilion, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00")
# The ends of the scale of errors, from one hue to a paler one: it is read by its lightness.
DARK, PALE = (8, 48, 107), (214, 228, 240)


def plane(graph: RelationalGraph, measured: Landscape | None = None) -> str:
    """``graph`` as a point of the plane of clustering C and path length L, among WS-flex graphs.

    The grey points are our sample of graphs of as many nodes: 449 of 64, 326 of 16; 64 for others.

    Args:
        graph: the graph.
        measured: errors of trained graphs of as many nodes, drawn as squares, dark where low.
    """
    nodes = graph.num_nodes if graph.num_nodes in (16, 64) else 64
    cloud = _cloud(nodes)
    try:
        here: tuple[float, float] | None = (
            graph.clustering_coefficient,
            graph.average_path_length,
        )
    except InputError:  # some pair of nodes has no path
        here = None
    most = max(4.5 if nodes == 64 else 3.0, *(length for _, length in cloud))
    if here:
        most = max(most, here[1] * 1.05)
    axes = _Axes((0.0, 1.0), (1.0, most))
    squares = _squares(measured, axes) if measured else ""
    parts = [
        f'<circle cx="{axes.x(c):.1f}" cy="{axes.y(length):.1f}" r="1.6"/>' for c, length in cloud
    ]
    drawn = [squares, f'<g fill="#8a94a3" fill-opacity="0.55">{"".join(parts)}</g>']
    if here:
        drawn.append(
            f'<circle cx="{axes.x(here[0]):.1f}" cy="{axes.y(here[1]):.1f}" r="7" '
            f'fill="{COLOURS[1]}" stroke="white" stroke-width="2"/>'
        )
        said = f"this graph: C = {here[0]:.3f}, L = {here[1]:.3f}"
    else:
        said = "this graph is not connected and has no L"
    drawn.append(axes.drawn("clustering coefficient C", "average path length L"))
    drawn.append(_text(WIDTH - _RIGHT, _TOP + 12, said, anchor="end", weight=600))
    drawn.append(
        _text(
            WIDTH - _RIGHT,
            _TOP + 28,
            f"grey: {len(cloud)} WS-flex graphs of {nodes} nodes",
            anchor="end",
        )
    )
    if measured:
        errors = [error for *_, error in measured.bins]
        error = measured.error_at(*here) if here else None
        known = "no graph was trained here" if error is None else f"{error:.2f} % error here"
        said += f"; {known}"
        scale = f"dark {min(errors):.1f} % to light {max(errors):.1f} %, {measured.name}"
        for line, text in enumerate((known, scale)):
            drawn.append(_text(WIDTH - _RIGHT, _TOP + 44 + 16 * line, text, anchor="end"))
    return _svg(drawn, f"Plane of clustering and path length; {said}")


def _squares(measured: Landscape, axes: _Axes) -> str:
    """The bins, from dark blue at the lowest error to pale at the highest, by rank.

    By rank, because a few sparse graphs have errors far above the others.
    """
    width, height = measured.size
    ranked = sorted(measured.bins, key=lambda one: one[2])
    drawn = []
    for rank, (c, length, error) in enumerate(ranked):
        share = rank / max(1, len(ranked) - 1)
        colour = "#" + "".join(
            f"{round(dark + share * (pale - dark)):02x}"
            for dark, pale in zip(DARK, PALE, strict=True)
        )
        x, y = axes.x(c - width / 2), axes.y(length + height / 2)
        drawn.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{axes.x(c + width / 2) - x:.1f}" '
            f'height="{axes.y(length - height / 2) - y:.1f}" fill="{colour}">'
            f"<title>C {c:.2f}, L {length:.2f}: {error:.2f} %</title></rect>"
        )
    return "".join(drawn)


def curves(rows: Iterable[MetricsRow], names: Sequence[str], epochs: int) -> str:
    """Test error against epochs, a line per graph: mean over seeds, bars of one sample deviation.

    Args:
        rows: of ``metrics.csv``, as many as there are so far.
        names: of the graphs, in order.
        epochs: that a training has.
    """
    errors: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        errors.setdefault((row.graph, row.epoch), []).append(row.test_error)
    spread = {
        key: statistics.stdev(seeds) if len(seeds) > 1 else 0 for key, seeds in errors.items()
    }
    middle = {key: statistics.fmean(seeds) for key, seeds in errors.items()}
    most = max([middle[key] + spread[key] for key in errors], default=10.0)
    axes = _Axes((0.0, float(epochs)), (0.0, max(1.0, most)))
    drawn, labels = [], []
    for i, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        points = [
            (e, middle[name, e], spread[name, e])
            for e in range(1, epochs + 1)
            if (name, e) in middle
        ]
        line = " ".join(f"{axes.x(e):.1f},{axes.y(value):.1f}" for e, value, _ in points)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [
            f'<path d="M{axes.x(e):.1f} {axes.y(value - bar):.1f}V{axes.y(value + bar):.1f}" '
            f'stroke="{colour}" stroke-width="1.5"/>'
            for e, value, bar in points
        ]
        # Of the last epoch drawn: while a seed is under way, earlier epochs have more of them.
        seeds = len(errors[name, points[-1][0]]) if points else 0
        spread_said = f" ± {points[-1][2]:.2f}" if seeds > 1 else ""
        last = f"{points[-1][1]:.2f}{spread_said} %" if points else "not yet"
        said = name.rpartition("/")[2] if name.startswith("file:") else name
        rest = f": {last} ({seeds} seed{'s' if seeds != 1 else ''})"
        labels.append(said + rest)
        room = _MOST_LETTERS - len(rest)
        label = (said if len(said) <= room else f"{said[: room - 1]}\u2026") + rest
        up = _TOP + 12 + 16 * i
        # The text in the page's own colour: it is read on a light and on a dark ground.
        drawn.append(_text(WIDTH - _RIGHT - 26, up, label, anchor="end"))
        drawn.append(
            f'<path d="M{WIDTH - _RIGHT - 20} {up - 4}h20" stroke="{colour}" stroke-width="3"/>'
        )
    drawn.append(axes.drawn("epoch", "test error (%)"))
    # A screen reader reads of an image its name alone.
    return _svg(drawn, "; ".join(["Test error against epochs", *labels]))


@cache
def _cloud(num_nodes: int) -> list[tuple[float, float]]:
    batch = GraphBatch.of(sample(num_nodes, 449 if num_nodes == 64 else 326))
    c, length = clustering_coefficient(batch), average_path_length(batch)
    return list(zip(c.tolist(), length.tolist(), strict=True))


class _Axes:
    """From numbers to pixels, and two axes with ticks."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across, self.up = across, up

    def x(self, value: float) -> float:
        low, high = self.across
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.up
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _BOTTOM - _TOP)

    def drawn(self, across: str, up: str) -> str:
        corner = f"M{_LEFT} {_TOP}V{HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"
        made = [f'<path d="{corner}" fill="none" stroke="currentColor"/>']
        for i in range(6):
            x = self.across[0] + i / 5 * (self.across[1] - self.across[0])
            y = self.up[0] + i / 5 * (self.up[1] - self.up[0])
            made.append(_text(self.x(x), HEIGHT - _BOTTOM + 16, f"{x:.3g}", anchor="middle"))
            made.append(_text(_LEFT - 6, self.y(y) + 4, f"{y:.2g}", anchor="end"))
        made.append(_text((_LEFT + WIDTH) / 2, HEIGHT - 6, across, anchor="middle"))
        turned = f'transform="rotate(-90 12 {HEIGHT / 2})"'
        made.append(_text(12, HEIGHT / 2, up, anchor="middle", more=turned))
        return "".join(made)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str,
    weight: int = 400,
    more: str = "",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="currentColor" {more}>{escape(text)}</text>'
    )


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" style="max-width: {WIDTH}px" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif" font-size="12">'
        f"{''.join(parts)}</svg>"
    )
