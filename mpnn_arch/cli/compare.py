"""``mpnn-arch compare``: message functions and aggregations, trained and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mpnn_arch.checks import counted
from mpnn_arch.cli.defaults import Defaults
from mpnn_arch.cli.options import study_options, trial_options

if TYPE_CHECKING:
    from rich.table import Table

    from mpnn_arch.studies.comparison import SwapResult

DEFAULTS = Defaults(
    command="compare",
    prefix="compare-",
    against_complete=False,
    messages=("linear", "gated", "low_rank"),
    aggrs=("sum", "mean", "max", "softmax"),
)


@click.command(short_help="Train a model with several messages and aggregations.")
@trial_options("the model's default graph", "linear,gated,low_rank", "sum,mean,max,softmax")
@study_options(folder="runs/compare-MODEL-DATASET-TIME", workers="0", weights="none")
def compare(*, quiet: bool, **options: Any) -> None:
    """Train a model with every given message and aggregation, at equal multiply-adds.

    Names are separated by commas; aggregations joined by + are used together. The table shows the
    test error, parameters, multiply-adds, and the time of a training step relative to the fused
    linear-sum round, timed in turns with it after the training. The folder is a study; with
    --out, the same command again, or --resume, continues it.
    """
    from mpnn_arch.cli.running import consoles, end, run_study, say, split
    from mpnn_arch.errors import InputError

    model = options["model"] or ""
    if ":" in model:
        raise InputError(
            f"compare swaps the rounds of a model by its name, and {model!r} is a function of "
            "yours; give it the messages yourself, and train it with mpnn-arch sweep"
        )
    console, errors = consoles(quiet)
    given, how = split(options)
    study, _ = run_study(DEFAULTS, given, how, console, errors, headline=False)

    from rich.text import Text

    from mpnn_arch.cli.output import print_table
    from mpnn_arch.io.files import write_text
    from mpnn_arch.studies.comparison import compare_swaps, plot_swaps
    from mpnn_arch.studies.run_products import csv_text, dataset_title
    from mpnn_arch.training.devices import find_device
    from mpnn_arch.training.recipes import recipe_note

    with errors.status("timing steps") as status:
        swaps = compare_swaps(
            study,
            device=str(find_device(how.device)),
            threads=how.threads,
            data_root=how.data_root,
            trust=how.trust,
            watch=lambda what: status.update(Text(f"timing steps: {what}")),
        )
    config = study.config
    if swaps:
        title = f"{config.model} on {dataset_title(config.dataset)}"
        graphs = ", ".join(dict.fromkeys(swap.result.graph for swap in swaps))
        say(
            console,
            f"{title}, {graphs}, equal multiply-adds, "
            f"{counted(len(config.seeds), 'seed')}, {counted(config.training.epochs, 'epoch')}",
        )
        note = recipe_note(config.model, config.training, config.dataset)
        if note and config.recipe is None:
            say(console, note)
        print_table(console, _table(swaps, study.config.model))
        say(
            console,
            "time per step: relative to the fused linear-sum round; median of turns with it, and "
            "half their interquartile range",
        )
        write_text(study.path / "compare.csv", csv_text([swap.to_dict() for swap in swaps]))
        plot_swaps(study.path / "compare.png", f"{title}, equal multiply-adds", swaps)
        say(console, f"table and plot: {study.path}")
    end(study, console)


def _table(swaps: Sequence[SwapResult], model: str) -> Table:
    from rich.table import Table

    from mpnn_arch.studies.published import PUBLISHED_ON

    with_graph = len({swap.result.graph for swap in swaps}) > 1
    published = any(swap.result.published_test_error is not None for swap in swaps)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in (*(("graph",) if with_graph else ()), "message", "aggr"):
        table.add_column(title, no_wrap=title != "graph", overflow="fold")
    titles = ["width", "parameters", "multiply-adds", "test error (%)", "time per step"]
    titles += [f"published, {PUBLISHED_ON[model]} (%)"] if published else []
    for title in titles:
        table.add_column(title, justify="right")
    for swap in swaps:
        r, error = swap.result, swap.result.published_test_error
        cells = [
            *([r.graph] if with_graph else []),
            r.message or "-",
            r.aggr,
            " ".join(map(str, r.widths)),
            f"{r.parameters:,}",
            "-" if r.multiply_adds is None else f"{r.multiply_adds:,}",
            r.shown_error,
            f"{swap.time.ratio:.2f} x ± {swap.time.spread:.0%}",
            *(["-" if error is None else f"{error:.2f}"] * published),
        ]
        table.add_row(*cells)
    return table
