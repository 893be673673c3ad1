"""``mpnn-arch sweep``: many graphs and seeds, trained by worker processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from mpnn_arch.cli.closing_report import write_closing_report
from mpnn_arch.cli.defaults import Defaults
from mpnn_arch.cli.options import race_options, study_options, trial_options
from mpnn_arch.cli.status import race_lines, read_status

if TYPE_CHECKING:
    from rich.table import Table

    from mpnn_arch.studies.results import Result

DEFAULTS = Defaults(command="sweep", prefix="sweep-", workers=None)
POPULATION = "auto; off without workers"
MOST_SHOWN = 12
"""Rows of the closing table; ``mpnn-arch export`` has all."""


@click.command(short_help="Train a model on many graphs, with several seeds each.")
@trial_options("the model's default graph and the complete graph", "the model's own", "sum")
@race_options()
@study_options(
    folder="runs/sweep-MODEL-DATASET-TIME",
    workers="one per core",
    weights="none",
    population=POPULATION,
)
@click.option(
    "--report/--no-report",
    default=True,
    help="Write a report of the findings into the study's folder.  [default: --report]",
)
def sweep(*, quiet: bool, report: bool, **options: Any) -> None:
    """Train one model on many relational graphs, with several seeds each.

    With --out, the same command again continues where it stopped; finished trials are not trained
    again. `mpnn-arch status` shows the progress, `mpnn-arch export` writes the results.
    """
    from mpnn_arch.cli.running import consoles, end, run_study, say, split

    console, errors = consoles(quiet)
    study, trained = run_study(DEFAULTS, *split(options), console, errors, headline=False)
    from mpnn_arch.cli.output import print_table
    from mpnn_arch.io.files import typed_path
    from mpnn_arch.studies.results import read_results

    with study.ledger() as ledger:
        results = read_results(ledger)
    if results:
        print_table(console, _table(results, study.config.model))
    if len(results) > MOST_SHOWN:
        left_out = len(results) - MOST_SHOWN
        where = typed_path(study.path)
        say(console, f"and {left_out} more: mpnn-arch export {where} --to results.csv")
    for line in race_lines(read_status(study.path)["race"]):
        say(console, line)
    if report:
        from rich.text import Text

        with errors.status("") as status:
            said = write_closing_report(
                study, anew=trained, progress=lambda what: status.update(Text(what))
            )
        say(console, said)
    end(study, console)


def _table(results: list[Result], model: str) -> Table:
    """Mean test error of every graph, message and aggregation, best first."""
    from rich.table import Table

    from mpnn_arch.studies.published import PUBLISHED_ON

    swapped = len({(r.message, r.aggr) for r in results}) > 1
    published = any(r.published_test_error is not None for r in results)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("graph", overflow="fold")
    titles = ["message", "aggr"] if swapped else []
    titles += ["C", "L", "width", "seeds", "test error (%)"]
    titles += [f"published, {PUBLISHED_ON[model]} (%)"] if published else []
    for title in titles:
        table.add_column(title, justify="right")
    ordered = sorted(results, key=lambda r: math.inf if math.isnan(r.mean) else r.mean)
    for r in ordered[:MOST_SHOWN]:
        cells = [
            r.graph,
            *([r.message or "-", r.aggr] if swapped else []),
            _number(r.clustering_coefficient),
            _number(r.average_path_length),
            str(r.widths[0]) if r.widths else "-",
            str(len(r.test_errors)),
            r.shown_error,
            *([_number(r.published_test_error)] * published),
        ]
        table.add_row(*cells)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
