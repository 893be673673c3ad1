"""``mpnn-arch train``: one model on several graphs at equal cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mpnn_arch.cli.defaults import Defaults
from mpnn_arch.cli.options import study_options, trial_options

if TYPE_CHECKING:
    from rich.table import Table

    from mpnn_arch.studies.results import Result

DEFAULTS = Defaults(command="train", weights="all")


@click.command()
@trial_options("the model's default graph and the complete graph", "the model's own", "sum")
@study_options(folder="runs/MODEL-DATASET-TIME", workers="0", weights="all")
def train(*, quiet: bool, **options: Any) -> None:
    """Train a model on relational graphs and compare them.

    On every graph the widths are matched to the cost of the dense model. The folder is a study,
    with weights, metrics, a table and a figure. Ctrl-C interrupts it; with --out, the same command
    again, or --resume, continues it with the same result.
    """
    from mpnn_arch.cli.running import consoles, end, run_study, say, split

    console, errors = consoles(quiet)
    study, _ = run_study(DEFAULTS, *split(options), console, errors, headline=not quiet)
    from mpnn_arch.cli.output import print_table
    from mpnn_arch.studies.run_products import write_products

    with errors.status("writing tables and figure"):
        results = write_products(study)
    if results:
        print_table(console, _table(results, study.config.model))
        say(console, f"figure: {study.path / 'curves.png'}")
    end(study, console)


def _table(results: list[Result], model: str) -> Table:
    from rich.table import Table

    from mpnn_arch.studies.published import PUBLISHED_ON

    # Narrow enough for 80 columns in the usual case.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("graph", no_wrap=True)
    swapped = len({(r.message, r.aggr) for r in results}) > 1
    published = any(r.published_test_error is not None for r in results)
    titles = (
        *(("message", "aggr") if swapped else ()),
        "C",
        "L",
        "width",
        "param-\neters",
        "multiply-\nadds",
        "test error\n(%)",
        "s per\nepoch",
        *((f"published,\n{PUBLISHED_ON[model]}",) if published else ()),
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=title != "width")
    for r in results:
        length, cost, error = r.average_path_length, r.multiply_adds, r.published_test_error
        cells = (
            *((r.message or "-", r.aggr) if swapped else ()),
            f"{r.clustering_coefficient:.2f}",
            "-" if length is None else f"{length:.2f}",
            " ".join(map(str, r.widths)) or "-",
            f"{r.parameters:,}",
            "-" if cost is None else f"{cost:,}",
            r.shown_error,
            f"{r.seconds_per_epoch:.2f}",
            *(("-" if error is None else f"{error:.2f}",) if published else ()),
        )
        table.add_row(r.graph, *cells)
    return table
