"""Single figures of the report, for a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd

from mpnn_arch.analysis.corrected import simultaneous_sweet_spot
from mpnn_arch.analysis.landscape import landscape
from mpnn_arch.analysis.per_graph import per_graph
from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.charts import landscape_chart
from mpnn_arch.analysis.report.draw_matplotlib import draw_chart
from mpnn_arch.analysis.sweet_spot import sweet_spot
from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.io.figures import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_landscape(
    table: pd.DataFrame, resolution: Literal["coarse", "fine"] = "coarse", ax: Axes | None = None
) -> Axes:
    """Mean error over the plane of C and L, with the sweet spot, as in the report.

    Args:
        table: a tidy table, see :func:`~mpnn_arch.analysis.load_results`.
        resolution: the paper's coarse or fine bins.
        ax: where to draw; None makes a figure, which is ``ax.figure``.

    Raises:
        InputError: graphs of several sizes, no such resolution, or matplotlib is not installed.

    Source: You, Leskovec, He, Xie, ICML 2020, Figure 4.

    Example:
        >>> from mpnn_arch.analysis import draw_landscape, load_results
        >>> axes = draw_landscape(load_results("results.csv"))
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('clustering coefficient C', 'average path length L')
        >>> axes.figure.savefig("landscape.png")
    """
    if ax is not None and not hasattr(ax, "imshow"):
        raise InputError(f"ax is a matplotlib Axes, not {shown(ax)}; give one of plt.subplots()")
    bins = landscape(table, resolution)
    name = str(table["results"].iloc[0])
    analysis = Analysis(name, table, [], per_graph(table), None)
    if resolution == "coarse":
        analysis.coarse = bins
    else:
        analysis.fine = bins
    try:
        analysis.spot = sweet_spot(table)
        analysis.simultaneous = simultaneous_sweet_spot(table)
    except InputError:  # too few errors for a test
        pass
    chart = landscape_chart(analysis, resolution)
    assert chart is not None
    axes = new_figure(6.5, 4.5).add_subplot() if ax is None else ax
    draw_chart(chart, axes)
    axes.set_title(plain(chart.title), fontsize=9)
    return axes
