"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files as resources
from typing import Any

import numpy as np
import pandas as pd

from mpnn_arch.analysis.landscape import plane_of
from mpnn_arch.analysis.per_graph import Numbers
from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.chart import Chart
from mpnn_arch.analysis.report.draw_plotly import plotly_figure
from mpnn_arch.analysis.report.readings import FAILS, IN_PART, SURVIVES, Reading
from mpnn_arch.analysis.report.tables import readings_table
from mpnn_arch.analysis.sweet_spot import intersection
from mpnn_arch.checks import counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph

# Tables on the page, in order, with what they hold; the others are files only.
SHOWN = {
    "top": "The ten graphs of lowest mean error",
    "sweet_spots": "The sweet spot by every rule",
    "effects": "Differences, 95 % intervals (percentage points, and in deviations; of the best "
    "graph, for all graphs at once)",
    "selection": "The best graph, chosen on some training seeds and reported on the others",
    "ladder": "Share of the variance explained by density, then degrees, then C and L",
    "surfaces": "Smooth functions, cross-validated",
    "slices": "Second-degree regressions along the slices",
    "measures": "Measures of the graph, cross-validated",
    "calibration": "False alarms and power on planted landscapes",
    "racing": "What racing would have saved and lost",
}
_CLASS = {SURVIVES: "survives", IN_PART: "part", FAILS: "fails"}


def render_page(
    analyses: Sequence[Analysis],
    charts: Mapping[str, Sequence[Chart]],
    common: Sequence[Chart],
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
    files: Mapping[tuple[str, str], str],
    pairs: pd.DataFrame,
    readings: Sequence[Reading],
    notes: Sequence[str],
) -> str:
    """The page's HTML.

    Args:
        analyses: the analyses.
        charts: of every results file, by its name.
        common: of pairs of results.
        tables: of every results file, by its name.
        files: the file of every table, by the names of the results and of the table.
        pairs: agreement of architectures.
        readings: what survives.
        notes: what was left out of the comparison between results.

    Raises:
        InputError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError(
            'the page needs plotly, which is not installed: pip install "mpnn-arch[analysis]"'
        ) from None
    here = resources("mpnn_arch.analysis.report")
    sections = [
        _section(one, place, charts[one.name], tables[one.name], files)
        for place, one in enumerate(analyses)
    ]
    links = [
        f'<a href="#results-{place}">{escape(one.name)}</a>' for place, one in enumerate(analyses)
    ]
    if common:
        sections.append(_agreement(analyses, common, pairs))
        links.append('<a href="#agreement">Agreement</a>')
    parts = {
        "style": (here / "page.css").read_text(encoding="utf-8"),
        "lead": _lead(analyses),
        "links": " ".join(links) + " ",
        "readings": _readings(readings),
        "sections": "\n".join(sections),
        "notes": _notes(analyses, notes),
        "data": _data(analyses, charts, common),
        "plotly": get_plotlyjs(),
        "script": (here / "page.js").read_text(encoding="utf-8"),
    }
    page = (here / "page.html").read_text(encoding="utf-8")
    # Split first, so that a placeholder's text within a part is left as it is.
    pieces = page.split("{{")
    done = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        done += [parts[name], rest]
    return "".join(done)


def _lead(analyses: Sequence[Analysis]) -> str:
    described = [
        f"<b>{escape(one.name)}</b> ({counted(len(one.graphs), 'graph')} of {one.num_nodes} nodes, "
        f"{counted(one.table['train_seed'].nunique(), 'training seed')})"
        for one in analyses
    ]
    return "Results: " + "; ".join(described) + "."


def _readings(readings: Sequence[Reading]) -> str:
    if not readings:
        return "<p>These results allow no test of a claim; see what was left out.</p>"
    rows = []
    for one in readings_table(readings).to_dict("records"):
        verdict = f'<td class="text verdict {_CLASS[one["verdict"]]}">{escape(one["verdict"])}</td>'
        cells = [f'<td class="text">{escape(one[key])}</td>' for key in ("claim", "results")]
        evidence = f'<td class="text" title="{escape(one["rule"])}">{escape(one["evidence"])}</td>'
        rows.append(f"<tr>{cells[0]}{verdict}{evidence}{cells[1]}</tr>")
    head = "".join(
        f'<th class="text">{title}</th>' for title in ("claim", "verdict", "evidence", "results")
    )
    rules = readings_table(readings).drop_duplicates("claim")
    listed = "".join(
        f"<li>{escape(claim)}: {escape(rule)}</li>"
        for claim, rule in rules[["claim", "rule"]].to_numpy()
    )
    return (
        f'<div class="panel"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
        f"<details><summary>When a claim survives</summary><ul>{listed}</ul></details>"
    )


def _section(
    one: Analysis,
    place: int,
    charts: Sequence[Chart],
    tables: Mapping[str, pd.DataFrame],
    files: Mapping[tuple[str, str], str],
) -> str:
    drawn = [
        _figure(chart, f"{place}/{index}") for index, chart in enumerate(_beside_landscape(charts))
    ]
    listed = [
        f"<details><summary>{title} (tables/{files[one.name, kind]})</summary>"
        f"{_scrolled(tables[kind], title)}</details>"
        for kind, title in SHOWN.items()
        if kind in tables
    ]
    dense = (
        "no baseline"
        if one.baseline is None
        else f"baseline {one.baseline['mean']:.2f} ± {one.baseline['std']:.2f} %"
    )
    best = one.graphs.iloc[0]
    return (
        f'<section id="results-{place}"><h2>{escape(one.name)}</h2>'
        f"<p>{dense}; best graph {best['mean']:.2f} ± {best['std']:.2f} % "
        f"({escape(_short(best['graph']))}): mean and deviation of a graph's runs, with N as in "
        "the paper.</p>"
        f'<div class="row">{"".join(drawn)}</div><h3>Tables</h3>{"".join(listed)}</section>'
    )


def _agreement(analyses: Sequence[Analysis], common: Sequence[Chart], pairs: pd.DataFrame) -> str:
    shared = intersection([one.spot for one in analyses if one.spot is not None])
    said = "The sweet spots have no rectangle in common."
    if shared is not None:
        (c_low, c_high), (l_low, l_high) = shared
        said = (
            f"The rectangle common to all sweet spots: C {c_low:.3f} to {c_high:.3f}, "
            f"L {l_low:.3f} to {l_high:.3f}."
        )
    drawn = [_figure(chart, f"common/{index}") for index, chart in enumerate(common)]
    return (
        '<section id="agreement"><h2>Agreement of architectures</h2>'
        f"<p>{said}</p>"
        f'<div class="row">{"".join(drawn)}</div>'
        f"{_scrolled(pairs, 'Agreement of pairs of results')}</section>"
    )


def _figure(chart: Chart, key: str) -> str:
    height = round(chart.size[1] * 92)
    return (
        f'<figure class="chart"><div data-chart="{key}" style="min-height:{height}px"></div>'
        f"<figcaption>{escape(chart.caption)}</figcaption></figure>"
    )


def _beside_landscape(charts: Sequence[Chart]) -> list[Chart]:
    endings = ("_landscape_coarse", "_landscape_fine")
    return [chart for chart in charts if not chart.name.endswith(endings)]


def _notes(analyses: Sequence[Analysis], notes: Sequence[str]) -> str:
    said = [f"{one.name}: {note}" for one in analyses for note in one.notes] + list(notes)
    if not said:
        return "<p>Nothing.</p>"
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in said) + "</ul>"


def _scrolled(table: pd.DataFrame, title: str) -> str:
    """The table in a box that the keyboard reaches, and so scrolls."""
    return (
        f'<div class="panel scroll" tabindex="0" role="group" aria-label="{escape(title)}">'
        f"{_table(table)}</div>"
    )


def _table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in table.columns)
    rows = [
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}"
    if isinstance(value, tuple):
        return " to ".join(_cell(one) for one in value)
    return _short(str(value))


def _short(name: str) -> str:
    """A graph's name with its numbers to four digits."""
    family, colon, rest = name.partition(":")
    if not colon:
        return name
    try:
        return family + ":" + ",".join(f"{float(part):.4g}" for part in rest.split(","))
    except ValueError:
        return name


def _data(
    analyses: Sequence[Analysis], charts: Mapping[str, Sequence[Chart]], common: Sequence[Chart]
) -> str:
    drawings: dict[str, dict[str, Any]] = {}
    for one in analyses:
        for name, graph in one.relational.items():
            if name not in drawings and not graph.is_directed:
                drawings[name] = {"nodes": graph.num_nodes, "bits": _bits(graph)}
    values = {
        "analyses": [_analysis(one, charts[one.name]) for one in analyses],
        "common": [plotly_figure(chart) for chart in common],
        "drawings": drawings,
    }
    # Within a script element nothing but "<" could end it early.
    return json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _analysis(one: Analysis, charts: Sequence[Chart]) -> dict[str, Any]:
    landscapes: dict[str, Any] = {}
    edges: dict[str, Any] = {}
    bins: list[Numbers] = []
    for which in ("coarse", "fine"):
        plane = plane_of(one.graphs, which)  # type: ignore[arg-type]
        edges[which] = {"c": plane.c_edges.tolist(), "l": plane.l_edges.tolist()}
        bins += plane.place(one.graphs["clustering_coefficient"], one.graphs["average_path_length"])
        for chart in charts:
            if chart.name.endswith(f"_landscape_{which}"):
                landscapes[which] = plotly_figure(chart)
    single = one.graphs["seeds"] < 2
    columns: Iterable[Any] = zip(
        one.graphs["graph"],
        one.graphs["clustering_coefficient"],
        one.graphs["average_path_length"],
        one.graphs["density"],
        one.graphs["mean"],
        one.graphs["std"].where(~single),
        np.stack(bins, axis=1).tolist(),
        strict=True,
    )
    graphs = [
        {
            "name": name,
            "short": _short(name),
            "c": round(c, 6),
            "l": round(length, 6),
            "density": round(density, 6) if np.isfinite(density) else 0,
            "mean": round(mean, 4),
            "std": round(std, 4) if np.isfinite(std) else None,
            "bins": where,
        }
        for name, c, length, density, mean, std, where in columns
    ]
    return {
        "name": one.name,
        "landscapes": landscapes,
        "edges": edges,
        "graphs": graphs,
        "charts": [plotly_figure(chart) for chart in _beside_landscape(charts)],
    }


def _bits(graph: RelationalGraph) -> str:
    """The upper triangle of the adjacency, row by row, as bits in base64."""
    upper = graph.adjacency[np.triu_indices(graph.num_nodes, 1)]
    return base64.b64encode(np.packbits(upper).tobytes()).decode("ascii")
