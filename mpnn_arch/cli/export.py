"""``mpnn-arch export``: the results of a study as one table."""

from __future__ import annotations

from pathlib import Path

import click

from mpnn_arch.checks import counted


@click.command(short_help="Write a study's results as one table.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "--out",
    "to",
    type=click.Path(path_type=Path),
    required=True,
    help="results.csv or results.parquet",
)
@click.option(
    "--all-epochs",
    is_flag=True,
    help="One row per epoch, including unfinished trials.  [default: the last epoch of finished "
    "trials]",
)
def export(*, folder: Path, to: Path, all_epochs: bool) -> None:
    """Write the results of the study in FOLDER as one tidy table.

    The paper's published columns come first, so that the tables can be joined. The study may be
    running. Code that it names is not imported. An existing file is replaced.
    """
    from mpnn_arch.studies.export import export as write
    from mpnn_arch.studies.study import Study

    with Study.open(folder).ledger() as ledger, ledger.snapshot():
        rows = write(ledger, to, all_epochs=all_epochs)
        counts = ledger.counts()
    click.echo(f"{counted(rows, 'row')} -> {to}")
    if not all_epochs and counts.left_out:
        click.echo(f"left out: {counts.left_out}; see --all-epochs and mpnn-arch status")
