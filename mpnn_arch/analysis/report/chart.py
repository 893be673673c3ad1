"""A chart as data, which matplotlib draws into files and plotly into the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mpnn_arch.analysis.per_graph import Array


@dataclass(frozen=True, eq=False)
class Heat:
    """Values over a grid of bins; not a number where a bin is empty.

    Args:
        x_edges: (k + 1,).
        y_edges: (m + 1,).
        values: (m, k).
        label: of the colour bar.
        diverging: whether 0 is the middle of the colours.
        hover: what a value is called where the pointer rests.
    """

    x_edges: Array
    y_edges: Array
    values: Array
    label: str
    diverging: bool = False
    hover: str = "error"

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the colours: the outermost twentieth is left out, so that it hides nothing."""
        known = self.values[np.isfinite(self.values)]
        if self.diverging:
            most = float(np.quantile(np.abs(known), 0.95)) or 1.0
            return -most, most
        low, high = np.quantile(known, [0.0, 0.95])
        return float(low), float(high if high > low else low + 1e-6)


@dataclass(frozen=True, eq=False)
class Points:
    """Single values, with bars of an interval if ``low`` and ``high`` are given."""

    x: Sequence[float] | Array
    y: Sequence[float] | Array
    label: str
    texts: Sequence[str] | None = None
    low: Sequence[float] | Array | None = None
    high: Sequence[float] | Array | None = None
    large: bool = False


@dataclass(frozen=True, eq=False)
class Line:
    """A curve, in a band if ``low`` and ``high`` are given."""

    x: Sequence[float] | Array
    y: Sequence[float] | Array
    label: str
    low: Sequence[float] | Array | None = None
    high: Sequence[float] | Array | None = None
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Rectangle:
    """A region's outline."""

    x: tuple[float, float]
    y: tuple[float, float]
    label: str
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Bars:
    """Horizontal bars, the first on top; intervals if ``low`` and ``high`` are given."""

    names: Sequence[str]
    values: Sequence[float] | Array
    label: str
    low: Sequence[float] | Array | None = None
    high: Sequence[float] | Array | None = None


Layer = Heat | Points | Line | Rectangle | Bars


@dataclass(frozen=True)
class Chart:
    """One chart.

    Args:
        name: of its files.
        title: what it shows.
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit.
        layers: drawn in order.
        caption: a sentence or two on how to read it.
        log_x: whether the horizontal axis is logarithmic.
        size: width and height in inches.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    layers: Sequence[Layer]
    caption: str = ""
    log_x: bool = False
    size: tuple[float, float] = field(default=(6.4, 4.4))
