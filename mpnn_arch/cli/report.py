"""``mpnn-arch report``: the paper's findings on results, tested, as a page, figures and tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from mpnn_arch.errors import InputError


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="Folder of the report.",
)
def report(*, results: tuple[Path, ...], out: Path) -> None:
    """Analyse RESULTS: CSV files in the published style, folders of them, runs, or studies.

    Writes findings.json, report.html (one page that works from a file without a network), every
    figure as PNG and SVG, and every table as CSV. A study may be running meanwhile.
    """
    from tempfile import TemporaryDirectory

    from rich.console import Console
    from rich.table import Table

    from mpnn_arch.analysis.report import write_report

    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 110
    with errors.status("") as status, TemporaryDirectory() as temporary:
        said = write_report(_exported(results, Path(temporary)), out, status.update)
    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False)
    for title in ("claim", "verdict", "evidence", "results"):
        table.add_column(title)
    for one in said:
        table.add_row(one.claim, one.verdict, one.evidence, one.results)
    console.print(table, highlight=False, markup=False)
    console.print(f"report: {out / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _exported(results: Iterable[Path], temporary: Path) -> list[Path]:
    """``results``, each study among them as a folder of its name with all its epochs as CSV."""
    from mpnn_arch.studies.export import export
    from mpnn_arch.studies.study import Study

    paths: list[Path] = []
    for path in results:
        if (path / "study.json").is_file():
            folder = temporary / str(len(paths)) / path.resolve().name
            folder.mkdir(parents=True)
            with Study.open(path).ledger() as ledger:
                if not export(ledger, folder / "export.csv", all_epochs=True):
                    raise InputError(
                        f"the study {path} has no trained epoch yet; run it with mpnn-arch sweep "
                        f"--out {path}"
                    )
            path = folder
        paths.append(path)
    return paths
