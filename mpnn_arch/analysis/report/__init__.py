"""The report of results: findings for programs, a page for people, figures and tables as files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mpnn_arch.analysis.architectures import consistency
from mpnn_arch.analysis.few_graphs import listed_subsets
from mpnn_arch.analysis.per_graph import without_baseline
from mpnn_arch.analysis.report.analyses import Analysis, analyse
from mpnn_arch.analysis.report.charts import agreement_charts, charts_of
from mpnn_arch.analysis.report.draw_matplotlib import save_chart
from mpnn_arch.analysis.report.drawn import draw_landscape
from mpnn_arch.analysis.report.findings import findings
from mpnn_arch.analysis.report.page import render_page
from mpnn_arch.analysis.report.readings import Reading, agreement_readings, readings
from mpnn_arch.analysis.report.tables import readings_table, tables_of
from mpnn_arch.analysis.results import file_names, read_many
from mpnn_arch.analysis.tidy_results import Results
from mpnn_arch.checks import as_list, check_callable, check_path
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_text, write_whole


def write_report(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    progress: Callable[[str], object] = lambda what: None,
    noted: Callable[[str], object] = lambda note: None,
) -> list[Reading]:
    """Analyse results and write the report into a folder.

    ::

        findings.json    every number, see :func:`~mpnn_arch.analysis.report.findings.findings`
        report.html      one page, self-contained: it works from a file without a network
        figures/         every figure of the page as PNG and SVG
        tables/          every table as CSV

    Files of an older report with the same names are replaced, each at once.

    Args:
        paths: results files, folders of them, or folders of runs.
        out: the folder; made if it is not there.
        progress: called with what is being done.
        noted: called with a sentence for whatever of the results is left out, or missing.

    Returns:
        What survives, see :class:`~mpnn_arch.analysis.report.readings.Reading`.

    Raises:
        InputError: no results, or a folder that cannot be made.

    Example:
        >>> from mpnn_arch.analysis import write_report
        >>> write_report(["nowhere.csv"], "report")
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: there is no file nowhere.csv; give a CSV file of results
    """
    for name, function in (("progress", progress), ("noted", noted)):
        check_callable(name, function, "give one of a text")
    given = [check_path(path) for path in as_list("paths", paths)]
    progress("reading results")
    results = read_many(given)
    for one in results:
        for note in one.notes:
            noted(f"{one.name}: {note}")
    folders = [path if path.is_dir() else path.parent for path in given]
    out = check_path(out)
    _make_folders(out)
    analyses = []
    for one in results:
        progress(f"analysing {one.name}")
        analyses.append(analyse(one, _subsets(one, results, folders)))
    pairs, notes = consistency({one.name: one.table for one in analyses})
    said = [reading for one in analyses for reading in readings(one)]
    said += agreement_readings(pairs)

    charts = {one.name: charts_of(one) for one in analyses}
    common = agreement_charts(analyses, pairs)
    tables = {one.name: tables_of(one) for one in analyses}
    progress("writing tables")
    files = _files_of(tables)
    for name, several in tables.items():
        for kind, table in several.items():
            _write_csv(table, out / "tables" / files[name, kind])
    shared = {"readings": readings_table(said), "architectures": pairs}
    for kind, table in shared.items():
        _write_csv(table, out / "tables" / f"{kind}.csv")
    progress("drawing figures")
    drawn = [*common, *(chart for several in charts.values() for chart in several)]
    for chart, name in zip(drawn, file_names([chart.name for chart in drawn]), strict=True):
        save_chart(replace(chart, name=name), out / "figures")
    progress("writing the page")
    numbers = findings(analyses, pairs, said)
    write_text(out / "findings.json", json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    write_text(
        out / "report.html",
        render_page(analyses, charts, common, tables, files, pairs, said, notes),
    )
    return said


def _files_of(tables: dict[str, dict[str, pd.DataFrame]]) -> dict[tuple[str, str], str]:
    """The file of every table; ``few_graphs`` of ``x`` and ``graphs`` of ``x_few`` are two."""
    keys = [(name, kind) for name, several in tables.items() for kind in several]
    stems = file_names([f"{name}_{kind}" for name, kind in keys])
    return {key: f"{stem}.csv" for key, stem in zip(keys, stems, strict=True)}


def _subsets(one: Results, results: list[Results], folders: list[Path]) -> dict[int, list[str]]:
    """Parts of its graphs: those of other results, and published lists at hand."""
    ours = set(without_baseline(one.table)["graph"])
    subsets: dict[int, list[str]] = {}
    for other in results:
        theirs = set(without_baseline(other.table)["graph"])
        if theirs and theirs < ours:
            subsets[len(theirs)] = sorted(theirs)
    for folder in dict.fromkeys(folders):
        subsets |= listed_subsets(one.table, folder)
    return dict(sorted(subsets.items()))


def _make_folders(out: Path) -> None:
    try:
        for folder in (out, out / "figures", out / "tables"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {out} cannot be made ({error.strerror}); choose another with --out"
        ) from None


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False))


__all__ = ["Analysis", "draw_landscape", "write_report"]
