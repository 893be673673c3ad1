"""The charts of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mpnn_arch.analysis.architectures import bin_pairs
from mpnn_arch.analysis.density_curve import DensityCurve, with_density
from mpnn_arch.analysis.landscape import Plane, plane_of
from mpnn_arch.analysis.per_graph import Array
from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.chart import Bars, Chart, Heat, Line, Points, Rectangle
from mpnn_arch.analysis.results_table import is_baseline
from mpnn_arch.analysis.sweet_spot import SweetSpot

C, L, ERROR = "clustering coefficient C", "average path length L", "error (%)"
_LABELS = {"clustering_coefficient": C, "average_path_length": L}


def landscape_chart(analysis: Analysis, resolution: str) -> Chart | None:
    """The heat map of mean error, with the sweet spots."""
    bins = analysis.coarse if resolution == "coarse" else analysis.fine
    if bins is None:
        return None
    plane = plane_of(analysis.graphs, resolution)  # type: ignore[arg-type]
    layers: list[Heat | Points | Rectangle] = [_heat(plane, bins, "mean", "mean error (%)")]
    if analysis.spot is not None:
        layers.append(_outline(analysis.spot, "sweet spot, paper's rule"))
    if analysis.simultaneous is not None and analysis.simultaneous.exists:
        layers.append(_outline(analysis.simultaneous.spot, "may hold the best (95 %)", dashed=True))
    best = analysis.graphs.iloc[0]
    where = [best["clustering_coefficient"]], [best["average_path_length"]]
    layers.append(Points(*where, f"best graph, {best['mean']:.2f} %", large=True))
    kind = f"{plane.shape[0]} x {plane.shape[1]} bins"
    return Chart(
        f"{analysis.name}_landscape_{resolution}",
        f"{analysis.name}: mean error by C and L, {kind}",
        C,
        L,
        layers,
        "Mean error over all graphs and training seeds of a bin. The outlines join the middles of "
        "the outermost bins that were kept.",
    )


def charts_of(analysis: Analysis) -> list[Chart]:
    """All charts of one results file."""
    makers = (_bootstrap, slice_charts, _density, _beyond_density, _selection, _surfaces, _measures)
    drawn: list[Chart | None] = [landscape_chart(analysis, which) for which in ("coarse", "fine")]
    for maker in (*makers, few_graphs_chart, few_epochs_chart, _calibration):
        charts = maker(analysis)
        drawn += charts if isinstance(charts, list) else [charts]
    return [chart for chart in drawn if chart is not None]


def agreement_charts(analysis: Sequence[Analysis], pairs: pd.DataFrame) -> list[Chart]:
    """Error of one architecture against another's, bin by bin."""
    tables = {one.name: one.table for one in analysis}
    drawn = []
    for row in pairs.to_dict("records"):
        points = bin_pairs(tables[row["first"]], tables[row["second"]])
        texts = [
            f"C {c:.2f}, L {length:.2f}"
            for c, length in points[["clustering_coefficient", "average_path_length"]].to_numpy()
        ]
        fit = np.polyfit(points["first"], points["second"], 1)
        rest = row["pearson_beyond_density"]
        ends = np.array([points["first"].min(), points["first"].max()])
        drawn.append(
            Chart(
                f"agreement_{row['first']}_{row['second']}",
                f"Pearson {row['pearson']:.2f}, Spearman {row['spearman']:.2f} over "
                f"{row['points']} bins",
                f"{row['first']}: {ERROR}",
                f"{row['second']}: {ERROR}",
                [
                    Points(points["first"], points["second"], "a bin of C and L", texts),
                    Line(ends, np.polyval(fit, ends), "least squares", dashed=True),
                ],
                "" if pd.isna(rest) else f"Of what density leaves unexplained: {rest:.2f}.",
            )
        )
    return drawn


def _heat(
    plane: Plane, bins: pd.DataFrame, column: str, label: str, diverging: bool = False
) -> Heat:
    values = np.full((plane.shape[1], plane.shape[0]), np.nan)
    where = plane.place(bins["clustering_coefficient"], bins["average_path_length"])
    values[where[1], where[0]] = bins[column]
    return Heat(plane.c_edges, plane.l_edges, values, label, diverging, label)


def _outline(spot: SweetSpot, label: str, dashed: bool = False) -> Rectangle:
    return Rectangle(spot.clustering_coefficient, spot.average_path_length, label, dashed)


def _names(graphs: pd.DataFrame) -> list[str]:
    return [
        f"{name.split(':')[0]}, C {c:.3f}, L {length:.3f}"
        for name, c, length in graphs[
            ["graph", "clustering_coefficient", "average_path_length"]
        ].to_numpy()
    ]


def _bootstrap(analysis: Analysis) -> Chart | None:
    if analysis.bootstrap is None:
        return None
    region, plane = analysis.bootstrap, plane_of(analysis.graphs)
    shares = region.candidates
    where = plane.place(shares["clustering_coefficient"], shares["average_path_length"])
    placed = shares.assign(c=where[0], l=where[1]).query("c >= 0")
    most = placed.groupby(["c", "l"], as_index=False)["kept_share"].max()
    values = np.full((plane.shape[1], plane.shape[0]), np.nan)
    values[most["l"], most["c"]] = most["kept_share"]
    return Chart(
        f"{analysis.name}_bootstrap",
        f"{analysis.name}: how often a bin is kept in {region.draws} resamples",
        C,
        L,
        [Heat(plane.c_edges, plane.l_edges, values, "share of resamples", hover="kept in")],
        "The paper's rule on resampled results: bins that are always kept would be the sweet spot "
        "again; with one graph per bin, the bin of a graph.",
    )


def slice_charts(analysis: Analysis) -> list[Chart]:
    """Error along L and along C, with second-degree regressions."""
    charts: list[Chart] = []
    for along, one in analysis.slices.items():
        short = "L" if along == "average_path_length" else "C"
        other = "C" if short == "L" else "L"
        charts.append(
            Chart(
                f"{analysis.name}_slice_{short}",
                f"{analysis.name}: error along {short}, {other} in {one.within[0]:g}-"
                f"{one.within[1]:g} (R² = {one.r2:.2f})",
                _LABELS[along],
                ERROR,
                [
                    Points(one.points[along], one.points["mean"], "a graph", _names(one.points)),
                    Line(
                        one.curve[along],
                        one.curve["error"],
                        "second degree, 95 % of the mean",
                        one.curve["low"],
                        one.curve["high"],
                    ),
                ],
                f"Lowest at {short} = {one.lowest:.2f}; curvature {one.curvature:.2f} "
                f"({one.curvature_interval[0]:.2f} to {one.curvature_interval[1]:.2f}), "
                f"p = {one.curvature_p:.1g}.",
            )
        )
    return charts


def _density(analysis: Analysis) -> Chart | None:
    if analysis.null is None:
        return None
    graphs = with_density(analysis.graphs[~is_baseline(analysis.graphs)])
    curve = DensityCurve.fit(graphs)
    at: Array = np.geomspace(graphs["density"].min(), graphs["density"].max(), 80)
    return Chart(
        f"{analysis.name}_density",
        f"{analysis.name}: error against density alone (R² = {analysis.null.density_r2:.2f})",
        "density",
        ERROR,
        [
            Points(graphs["density"], graphs["mean"], "a graph", _names(graphs)),
            Line(at, curve.predict(at), "cubic in log density"),
        ],
        "The rival explanation. Whatever C and L are said to do, they must do among graphs of "
        "equal density.",
        log_x=True,
    )


def _beyond_density(analysis: Analysis) -> Chart | None:
    if analysis.null is None:
        return None
    plane = plane_of(analysis.graphs)
    label = "error less that of its density (points)"
    return Chart(
        f"{analysis.name}_beyond_density",
        f"{analysis.name}: what density leaves unexplained (C and L add {analysis.null.gain:.2f})",
        C,
        L,
        [_heat(plane, analysis.null.bins, "residual", label, diverging=True)],
        f"Error less that expected of a graph's density. Share of the variance that C and L add: "
        f"{analysis.null.gain:.2f} ({analysis.null.gain_interval[0]:.2f} to "
        f"{analysis.null.gain_interval[1]:.2f}), p = {analysis.null.permutation_p:.2g} when "
        "errors are exchanged among graphs of equal density.",
    )


def _selection(analysis: Analysis) -> Chart | None:
    if analysis.bias is None:
        return None
    splits = analysis.bias.splits
    layers = [
        Line(splits["chosen_on"], splits["apparent"], "on the seeds it was chosen by"),
        Line(splits["chosen_on"], splits["held_out"], "on the other seeds"),
    ]
    if analysis.baseline is not None:
        dense = [analysis.baseline["mean"]] * len(splits)
        layers.append(Line(splits["chosen_on"], dense, "baseline (complete graph)", dashed=True))
    return Chart(
        f"{analysis.name}_selection",
        f"{analysis.name}: error of the best of {analysis.bias.graphs:,} graphs",
        "training seeds that the best was chosen by",
        ERROR,
        layers,
        f"Over every way to split the seeds. Trained again, the best of all seeds is expected at "
        f"{analysis.bias.expected:.2f} % instead of {analysis.bias.best:.2f} %.",
    )


def _surfaces(analysis: Analysis) -> Chart | None:
    if analysis.surfaces is None:
        return None
    rows = analysis.surfaces
    return Chart(
        f"{analysis.name}_surfaces",
        f"{analysis.name}: share of the variance between graphs, cross-validated",
        "explained share of the variance",
        "",
        [Bars(rows["function"], rows["r2"], "", rows["r2_low"], rows["r2_high"])],
        "Ten folds, 95 % over resampled graphs. The ceiling, with 95 % by the F distribution, is "
        "what chance in the training seeds leaves to be explained.",
        size=(6.4, 3.2),
    )


def _measures(analysis: Analysis) -> Chart | None:
    if analysis.measures is None or analysis.measures.empty:
        return None
    rows = analysis.measures
    return Chart(
        f"{analysis.name}_measures",
        f"{analysis.name}: measures of the graph by what they explain",
        "explained share of the variance, cross-validated",
        "",
        [
            Bars(rows["measure"], rows["alone"], "alone"),
            Bars(
                rows["measure"],
                rows["beyond_density"],
                "beyond density",
                rows["beyond_low"],
                rows["beyond_high"],
            ),
        ],
        f"Each with its square, over {rows['graphs'].iloc[0]} graphs.",
        size=(6.4, 6.4),
    )


def few_graphs_chart(analysis: Analysis) -> Chart | None:
    """Correlation of k graphs with all, by k."""
    table = analysis.few_graphs_by_count
    if table is None or table.empty:
        return None
    layers: list[Line | Points] = [
        Line(
            table["graphs"],
            table["pearson"],
            "random graphs spread over the bins, 5-95 %",
            table["pearson_low"],
            table["pearson_high"],
        )
    ]
    if analysis.few_graphs:
        found_lists = list(analysis.few_graphs.items())
        layers.append(
            Points(
                [count for count, _ in found_lists],
                [one.pearson for _, one in found_lists],
                "lists",
                large=True,
            )
        )
    return Chart(
        f"{analysis.name}_few_graphs",
        f"{analysis.name}: correlation of the bins of k graphs with all",
        "graphs k",
        "Pearson correlation",
        layers,
        log_x=True,
    )


def few_epochs_chart(analysis: Analysis) -> Chart | None:
    """Correlation of epoch t with the last, by t."""
    table = analysis.few_epochs
    if table is None or table.empty:
        return None
    across, caption = [], ""
    if table["pearson_other_seeds"].notna().any():  # of one training seed there are no others
        name = "Pearson, a seed with the others' last"
        across = [Line(table["epoch"], table["pearson_other_seeds"], name, dashed=True)]
        caption = (
            "A run's early and late errors share its luck; the dashed line compares different runs."
        )
    return Chart(
        f"{analysis.name}_few_epochs",
        f"{analysis.name}: correlation of epoch t with the last, over graphs",
        "epoch t",
        "correlation",
        [
            Line(
                table["epoch"],
                table["pearson"],
                "Pearson, 95 %",
                table["pearson_low"],
                table["pearson_high"],
            ),
            Line(table["epoch"], table["spearman"], "Spearman"),
            *across,
        ],
        caption,
        log_x=True,
    )


def _calibration(analysis: Analysis) -> Chart | None:
    if analysis.calibration is None:
        return None
    layers = []
    for rule, rows in analysis.calibration.groupby("rule", sort=False):
        layers.append(Line(rows["depth"], rows["claimed"], f"{rule}: claims a sweet spot"))
        layers.append(Line(rows["depth"], rows["lost"], f"{rule}: loses the best", dashed=True))
    return Chart(
        f"{analysis.name}_calibration",
        f"{analysis.name}: the rules on planted landscapes of this design",
        "depth of the planted sweet spot (points; 0 is flat)",
        "share",
        layers,
        "Claims at depth 0 are false alarms. Dashed: the share of the truly best that the region "
        "leaves out.",
    )
