"""``mpnn-arch status``: how far a study is."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

MOST_RUNNING = 16


@click.command(short_help="Show how far a study is.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(*, folder: Path, watch: bool, as_json: bool) -> None:
    """Show how far the study in FOLDER is: done, running, failed with reasons, time left.

    The study may be running. Code that it names is not imported.
    """
    from rich.live import Live

    from mpnn_arch.cli.output import new_console
    from mpnn_arch.io.json_text import format_json

    if as_json:
        click.echo(format_json(read_status(folder), indent=2))
        return
    console = new_console()
    if not watch:
        console.print(drawn(read_status(folder), console), soft_wrap=True)
        return
    try:
        first = drawn(read_status(folder), console)
        with Live(first, console=console, auto_refresh=False) as live:
            while True:
                time.sleep(2)
                found = read_status(folder)
                live.update(drawn(found, console), refresh=True)
                if not found["queued"] + found["running"] + found["waiting"]:
                    return
    except KeyboardInterrupt:
        return


def read_status(folder: Path) -> dict[str, Any]:
    """What the command shows, JSON-able."""
    from mpnn_arch.io.lock import lock_holder
    from mpnn_arch.studies.racing import correlations
    from mpnn_arch.studies.study import Study

    study = Study.open(folder)
    driver = lock_holder(folder / "lock")
    with study.ledger() as ledger:
        counts = ledger.counts()
        measured = ledger.setting("pace")
        at_work = list(ledger.trials("running"))
        if driver is None:  # it was killed: what it left running is queued, as the next one does
            counts = replace(counts, queued=counts.queued + counts.running, running=0)
            at_work = []
        running = [
            {
                "trial": row["hash"],
                "graph": row["graph"],
                "seed": row["seed"],
                "message": row["message"],
                "aggr": row["aggr"],
                "epochs_done": row["epochs_done"],
                "epochs": row["epochs"],
                "test_error": row["test_error"],
                "attempts": row["attempts"],
            }
            for row in at_work
        ]
        # A worker trains a population, of whose seconds each member has its share.
        workers = len({(row["population"], row["population"] or row["id"]) for row in at_work})
        reasons = [
            {"reason": row["reason"], "trials": row["trials"], "first": row["first"]}
            for row in ledger.query(
                "SELECT reason, count(*) AS trials, min(id) AS first FROM trial"
                " WHERE state = 'failed' GROUP BY reason ORDER BY trials DESC"
            )
        ]
        race = [asdict(rung) for rung in correlations(ledger, study.race)]
    pace = counts.seconds_per_epoch
    rate = None
    if driver and measured and measured["seconds"]:
        rate = measured["epochs"] / measured["seconds"]
    elif workers and pace:  # before the first epoch of this driver
        rate = workers / pace
    left = counts.epochs_asked - counts.epochs_done
    return {
        "study": str(folder),
        "driver": driver,
        "trials": counts.trials,
        "done": counts.done,
        "running": counts.running,
        "queued": counts.queued,
        "failed": counts.failed,
        "waiting": counts.waiting,
        "stopped": counts.stopped,
        "epochs_done": counts.epochs_done,
        "epochs_asked": counts.epochs_asked,
        "seconds_per_epoch": pace,
        "epochs_per_second": rate,
        "seconds_left": left / rate if rate else None,
        "running_trials": running,
        "failures": reasons,
        "race": race,
    }


def drawn(found: dict[str, Any], console: Console) -> Text:
    """What the command shows, as text whose lines a terminal that is too narrow breaks.

    A table would be cut off at its width while it is being watched.

    Args:
        found: from :func:`read_status`.
        console: that it is drawn for.
    """
    from rich.table import Table
    from rich.text import Text

    from mpnn_arch.cli.output import set_widths

    shown = _shown(found)
    tables = [part for part in shown.renderables if isinstance(part, Table)]
    width = max(console.width, *(set_widths(console, table, console.width) for table in tables))
    lines = []
    for segments in console.render_lines(shown, console.options.update_width(width), pad=False):
        line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        lines.append(line)
    text = Text("\n").join(lines)
    text.overflow = "fold"
    return text


def _shown(found: dict[str, Any]) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def lines(*titles: str) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for title in titles:
            table.add_column(title, overflow="fold")
        return table

    states = ["trials", "done", "running", "queued", "failed"]
    if found["race"]:
        states += ["waiting", "stopped"]
    counts = lines(*states, "epochs")
    counts.add_row(
        *(str(found[name]) for name in states),
        f"{found['epochs_done']}/{found['epochs_asked']}",
    )
    parts: list[Any] = [counts]
    driver = found["driver"]
    parts.append(Text(f"run by {driver}" if driver else "not being run"))
    if found["epochs_per_second"]:
        parts.append(
            Text(
                f"{found['epochs_per_second']:.3g} epochs a second, "
                f"{_duration(found['seconds_left'])} left"
            )
        )
    if found["failures"]:
        table = lines("failed", "first", "reason")
        for row in found["failures"]:
            table.add_row(str(row["trials"]), str(row["first"]), row["reason"])
        parts.append(table)
    parts += [Text(text) for text in race_lines(found["race"])]
    # Last, since a low terminal has no room for all of them.
    if found["running_trials"]:
        table = lines("running", "seed", "epochs", "test error (%)", "attempt")
        for row in found["running_trials"][:MOST_RUNNING]:
            error = row["test_error"]
            table.add_row(
                row["graph"],
                str(row["seed"]),
                f"{row['epochs_done']}/{row['epochs']}",
                "-" if error is None else f"{error:.2f}",
                str(row["attempts"]),
            )
        parts.append(table)
    return Group(*parts)


def race_lines(rungs: list[dict[str, Any]]) -> list[str]:
    """A sentence for each rung whose best were let run to the end."""
    lines = []
    for rung in rungs:
        those = f"{rung['candidates']} of {rung['of']} graphs"
        spearman = rung["spearman"]
        found = (
            f"Spearman {spearman:.2f} over the {those} that were let run"
            if spearman is not None
            else f"not compared, {those} were let run"
        )
        if rung["candidates"]:
            lines.append(f"order after epoch {rung['rung']} and at the end: {found}")
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
