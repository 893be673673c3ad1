"""``mpnn-arch report``: the paper's findings on results, tested, as a page, figures and tables."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Analyse results: a page, figures and tables.")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="Folder of the report.",
)
def report(*, results: tuple[Path, ...], out: Path) -> None:
    """Analyse RESULTS: CSV or Parquet files in the published style, folders of them, or studies.

    Writes findings.json, report.html (one page that works offline), every figure as PNG and SVG,
    and every table as CSV. A study may be running.
    """
    from rich.table import Table
    from rich.text import Text

    from mpnn_arch.analysis.report import write_report
    from mpnn_arch.cli.output import new_console, print_table

    console, errors = new_console(), new_console(stderr=True)
    if not console.is_terminal:
        console.width = 110
    with errors.status("") as status:
        said = write_report(
            results,
            out,
            lambda what: status.update(Text(what)),
            lambda note: errors.print(
                f"note: {note}", highlight=False, markup=False, soft_wrap=True
            ),
        )
    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False)
    for title in ("claim", "verdict", "evidence", "results"):
        table.add_column(title)
    for one in said:
        table.add_row(one.claim, one.verdict, one.evidence, one.results)
    if said:
        print_table(console, table, wrap=True)
    else:
        console.print("these results allow no test of a claim; the page says what it left out")
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
