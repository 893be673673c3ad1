"""Charts as plotly figures, for the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpnn_arch.analysis.report.chart import Bars, Chart, Heat, Line, Points, Rectangle
from mpnn_arch.io.figures import COLOURS

# Purple for below, orange for above, once reversed: as matplotlib draws it.
_DIVERGING = [
    [0.0, "#b35806"],
    [0.25, "#f1a340"],
    [0.5, "#f7f7f7"],
    [0.75, "#998ec3"],
    [1.0, "#542788"],
]


def plotly_figure(chart: Chart) -> dict[str, Any]:
    """``data`` and ``layout`` for ``Plotly.newPlot``, plain values."""
    colours = iter(COLOURS * 3)
    data: list[dict[str, Any]] = []
    for layer in chart.layers:
        if isinstance(layer, Heat):
            data.append(_heat(layer))
        elif isinstance(layer, Points):
            data.append(_points(layer, next(colours)))
        elif isinstance(layer, Line):
            data += _line(layer, next(colours))
        elif isinstance(layer, Rectangle):
            data.append(_rectangle(layer, next(colours)))
        else:
            data.append(_bars(layer, next(colours)))
    return {"data": data, "layout": _layout(chart)}


def _layout(chart: Chart) -> dict[str, Any]:
    # Without colours: the page gives those of its light or dark theme.
    plain = {"showline": True, "zeroline": False}
    bars = any(isinstance(layer, Bars) for layer in chart.layers)
    return {
        "title": {"text": chart.title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        "xaxis": {
            **plain,
            "title": {"text": chart.x_label},
            "type": "log" if chart.log_x else "linear",
            "automargin": True,
        },
        "yaxis": {
            **plain,
            "title": {"text": chart.y_label},
            "automargin": True,
            **({"autorange": "reversed"} if bars else {}),
        },
        "height": round(chart.size[1] * 92),
        "margin": {"l": 60, "r": 20, "t": 46, "b": 50},
        "legend": {"orientation": "h", "y": -0.24, "yanchor": "top"},
        "hovermode": "closest",
        "barmode": "group",
    }


def _heat(layer: Heat) -> dict[str, Any]:
    low, high = layer.limits
    return {
        "type": "heatmap",
        "x": _numbers((layer.x_edges[1:] + layer.x_edges[:-1]) / 2),
        "y": _numbers((layer.y_edges[1:] + layer.y_edges[:-1]) / 2),
        "z": [_numbers(row) for row in layer.values],
        "zmin": low,
        "zmax": high,
        "colorscale": _DIVERGING if layer.diverging else "Viridis",
        "reversescale": True,
        "colorbar": {"title": {"text": layer.label, "side": "right"}},
        "hovertemplate": f"C %{{x:.3f}}, L %{{y:.3f}}<br>{layer.hover} %{{z:.2f}}<extra></extra>",
        "hoverongaps": False,
        "name": layer.label,
    }


def _interval(layer: Points | Bars) -> dict[str, Any]:
    if layer.low is None or layer.high is None:
        return {}
    along = layer.y if isinstance(layer, Points) else layer.values
    values = np.asarray(along, dtype=float)
    return {
        "type": "data",
        "symmetric": False,
        "array": _numbers(np.asarray(layer.high, dtype=float) - values),
        "arrayminus": _numbers(values - np.asarray(layer.low, dtype=float)),
        "thickness": 1,
        "color": "#777",
    }


def _points(layer: Points, colour: str) -> dict[str, Any]:
    many = len(layer.x) > 200
    marker: dict[str, Any] = {
        "color": colour,
        "size": 4 if many else 7,
        "opacity": 0.4 if many else 0.85,
    }
    if layer.large:
        marker = {"color": colour, "size": 14, "symbol": "star"}
        marker["line"] = {"color": "#fff", "width": 1}
    return {
        "type": "scattergl" if many else "scatter",
        "mode": "markers",
        "x": _numbers(layer.x),
        "y": _numbers(layer.y),
        "text": list(layer.texts) if layer.texts is not None else None,
        "name": layer.label,
        "showlegend": bool(layer.label),
        "marker": marker,
        "error_y": _interval(layer),
    }


def _line(layer: Line, colour: str) -> list[dict[str, Any]]:
    x = _numbers(layer.x)
    drawn: list[dict[str, Any]] = []
    if layer.low is not None and layer.high is not None:
        drawn.append(
            {
                "type": "scatter",
                "mode": "none",
                "x": x + x[::-1],
                "y": _numbers(layer.high) + _numbers(layer.low)[::-1],
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.18,
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    drawn.append(
        {
            "type": "scatter",
            "mode": "lines+markers" if len(x) < 15 else "lines",
            "x": x,
            "y": _numbers(layer.y),
            "name": layer.label,
            "showlegend": bool(layer.label),
            "line": {"color": colour, "width": 2, "dash": "dash" if layer.dashed else "solid"},
        }
    )
    return drawn


def _rectangle(layer: Rectangle, colour: str) -> dict[str, Any]:
    (left, right), (low, high) = layer.x, layer.y
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers([left, right, right, left, left]),
        "y": _numbers([low, low, high, high, low]),
        "name": layer.label,
        "line": {"color": colour, "width": 3, "dash": "dash" if layer.dashed else "solid"},
        "hoverinfo": "skip",
    }


def _bars(layer: Bars, colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "y": list(layer.names),
        "x": _numbers(layer.values),
        "name": layer.label,
        "showlegend": bool(layer.label),
        "marker": {"color": colour},
        "error_x": _interval(layer),
    }


def _numbers(values: Any) -> list[float | None]:
    """Short decimals; JSON knows no not-a-number."""
    numbers = np.asarray(values, dtype=float)
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in numbers.ravel()]
