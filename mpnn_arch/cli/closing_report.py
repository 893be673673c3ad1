"""The report that a sweep writes into its study when it ends."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpnn_arch.studies.study import Study

FEWEST_GRAPHS = 3
"""With fewer there is nothing to compare beyond the closing table."""

_NEEDED = ("pandas", "scipy", "statsmodels", "sklearn", "plotly", "matplotlib")


def write_closing_report(
    study: Study, anew: bool, progress: Callable[[str], object] = lambda what: None
) -> str:
    """Write ``report/`` into the study's folder, as ``mpnn-arch report`` does.

    Whatever goes wrong is said and spoils nothing: the results stand in the ledger.

    Args:
        study: that has ended.
        anew: whether to replace a report that is there.
        progress: called with what is being done.

    Returns:
        One line: where the report is, or why there is none and how to get it.
    """
    from mpnn_arch.io.files import typed_path

    page = study.path / "report" / "report.html"
    if page.exists() and not anew:
        return f"report: {page}"
    where = typed_path(study.path)
    command = f"mpnn-arch report {where} --out {typed_path(study.path / 'report')}"
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return (
            f'no report: {missing[0]} is not installed; pip install "mpnn-arch[analysis]", then '
            f"{command}"
        )
    with study.ledger() as ledger:
        (row,) = ledger.query("SELECT count(DISTINCT graph) AS n FROM trial WHERE state = 'done'")
    if row["n"] < FEWEST_GRAPHS:
        return (
            f"no report: it compares at least {FEWEST_GRAPHS} graphs, and {row['n']} "
            f"{'is' if row['n'] == 1 else 'are'} done; add graphs by mpnn-arch sweep --out "
            f"{where} --extend --graphs ..."
        )
    try:
        _write(study, page.parent, progress)
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return f"no report: {reason}; to try again: {command}"
    return f"report: {page}"


def _write(study: Study, out: Path, progress: Callable[[str], object]) -> None:
    from mpnn_arch.analysis.report import write_report

    write_report([study.path], out, progress)
