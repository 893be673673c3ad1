"""``mpnn-arch sweep``: many graphs and seeds, trained by worker processes, with a ledger."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpnn_arch.cli.closing_report import write_closing_report
from mpnn_arch.cli.numbers import read_names
from mpnn_arch.cli.progress import open_listeners, progress_options
from mpnn_arch.cli.status import race_lines, read_status
from mpnn_arch.cli.train import check_backend, read_seeds
from mpnn_arch.errors import InputError
from mpnn_arch.studies.run_options import check_run_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mpnn_arch.studies.config import StudyConfig
    from mpnn_arch.studies.study import Study

MOST_SHOWN = 12
"""Rows of the closing table; ``mpnn-arch export`` has all."""


@click.command()
@click.option("--model", help="See `mpnn-arch models`, or module:function.  [default: mlp]")
@click.option(
    "--dataset",
    help="A name, a folder of images, or module:function; see train.  [default: mnist5k]",
)
@click.option(
    "--graphs",
    "-g",
    multiple=True,
    help="Graphs, as sample:64/52, published:64/3942 or complete:64; may be repeated.  "
    "[default: the model's own and the complete graph]",
)
@click.option("--seeds", help="How many (5: seeds 0 to 4), or which (0,5,7).  [default: 3]")
@click.option("--epochs", type=int, help="Passes over the training images.  [default: by recipe]")
@click.option("--message", "messages", help="Message functions.  [default: the model's own]")
@click.option("--aggr", "aggrs", help="Aggregations, between commas.  [default: sum]")
@click.option("--recipe", help="Name of the recipe.  [default: the model's]")
@click.option("--batch-size", type=int, help="Images a step.  [default: by recipe]")
@click.option("--learning-rate", type=float, help="Of the first step.  [default: by recipe]")
@click.option("--weight-decay", type=float, help="[default: by recipe]")
@click.option("--init", help="How weights are drawn: published or kaiming.  [default: by recipe]")
@click.option("--backend", help="How rounds are computed, as reference.  [default: the fastest]")
@click.option("--width-multiplier", type=float, help="Scales the dense model.  [default: 1]")
@click.option("--train-images", type=int, help="Train on so many only.")
@click.option("--test-images", type=int, help="Test on so many only.")
@click.option("--weights", help="Which weights are kept: all, best or none.  [default: none]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The study's folder; one that is there goes on.  [default: runs/sweep-MODEL-DATASET-TIME]",
)
@click.option(
    "--race",
    help="Epochs after which the worse graphs are stopped (3,9).  [default: none is stopped]",
)
@click.option("--keep", type=float, help="Share of graphs that goes on there.  [default: 0.5]")
@click.option("--extend", is_flag=True, help="Add graphs, seeds, messages or aggregations.")
@click.option("--retry-failed", is_flag=True, help="Give failed trials three attempts more.")
@click.option("--trust", is_flag=True, help="Run code that somebody else's study names.")
@click.option(
    "--workers",
    callback=lambda context, option, value: read_number(value),
    help="Worker processes; auto: by a short trial, threads too.  [default: one a core]",
)
@click.option("--threads", type=int, help="Of torch in each.  [default: cores / workers]")
@click.option(
    "--population",
    callback=lambda context, option, value: read_number(value),
    help="MLPs that a worker trains side by side: auto (by a timed trial), off, or so many.  "
    "[default: auto]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of downloaded data.  [default: $MPNN_ARCH_DATA, else ~/.cache/mpnn_arch]",
)
@click.option(
    "--report/--no-report",
    default=True,
    help="Write the findings into the study's folder at the end.  [default: --report]",
)
@progress_options
def sweep(
    *,
    out: Path | None,
    extend: bool,
    retry_failed: bool,
    trust: bool,
    workers: Any,
    threads: int | None,
    population: Any,
    device: str,
    data_root: Path | None,
    report: bool,
    quiet: bool,
    log_json: Path | None,
    tensorboard: Path | None,
    **given: Any,
) -> None:
    """Train one model on many relational graphs, with several seeds each.

    The same command again goes on where it was stopped: what is done is never done again. See how
    far it is with `mpnn-arch status`, write the results with `mpnn-arch export`.
    """
    from rich.console import Console

    from mpnn_arch.studies.listeners import several

    console = Console()
    if not console.is_terminal:
        console.width = 110
    errors = Console(stderr=True, quiet=quiet)
    study: Study | None = None
    check_run_options(workers, threads, population)
    try:
        with open_listeners(log_json=log_json, tensorboard=tensorboard) as listeners:
            with errors.status("loading torch, data and graphs"):
                study = _study(out, given, extend, trust, data_root, device)
            with _Progress(errors, study) as progress:
                study.run(
                    workers=workers,
                    threads=threads,
                    device=device,
                    data_root=data_root,
                    trust=trust,
                    retry_failed=retry_failed,
                    population=population,
                    watch=several(progress, *listeners),
                )
    except KeyboardInterrupt:
        if study is not None:
            errors.print(
                f"interrupted; to continue: mpnn-arch sweep --out {study.path}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        sys.exit(130)
    counts = study.counts()
    table, left_out = _table(study)
    if table.row_count:
        console.print(table)
    if left_out:
        console.print(f"and {left_out} more: mpnn-arch export {study.path} --to results.csv")
    for line in race_lines(read_status(study.path)["race"]):
        console.print(line, highlight=False)
    console.print(f"study: {study.path}", highlight=False, markup=False, soft_wrap=True)
    if report:
        with errors.status("") as status:
            line = write_closing_report(study, anew=progress.trained, progress=status.update)
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if counts.failed:
        console.print(
            f"{counts.failed} of {counts.trials} trials failed: mpnn-arch status {study.path}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        sys.exit(1)


def _study(
    out: Path | None,
    given: dict[str, Any],
    extend: bool,
    trust: bool,
    data_root: Path | None,
    device: str,
) -> Study:
    """The study in ``out`` if it is what the options ask for, or a new one."""
    import dataclasses

    from mpnn_arch.studies.study import Study
    from mpnn_arch.training.devices import find_device

    where = find_device(device).type
    if out is None or not out.exists():
        if extend:
            raise InputError("--extend needs --out with a study that is there")
        from mpnn_arch.training.data import short_name

        config = _configure(given)
        check_backend(config.backend, where)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = out or Path("runs") / f"sweep-{config.model}-{short_name(config.dataset)}-{stamp}"
        return Study.create(path, config, data_root=data_root)
    study = Study.open(out)
    before = study.config
    check_backend(before.backend, where)
    fields, training = _asked_for(given)
    base = _recipe(given["recipe"]).training if given["recipe"] else before.training
    asked = dataclasses.replace(before, training=dataclasses.replace(base, **training), **fields)
    before.check_same(asked)
    added = before.added_by(asked)
    if added and not extend:
        raise InputError(
            f"the study {out} would get {added}; give --extend to add that, or another --out"
        )
    if added:
        study.extend(asked, data_root=data_root, trust=trust)
    return study


_TRAINING_OPTIONS = ("epochs", "batch_size", "learning_rate", "weight_decay")


def _configure(given: dict[str, Any]) -> StudyConfig:
    """What the options ask for, the rest by the recipe."""
    import dataclasses

    from mpnn_arch.studies.config import StudyConfig
    from mpnn_arch.studies.import_paths import is_import_path
    from mpnn_arch.training.recipes import default_graphs

    fields, training = _asked_for(given)
    named = _recipe(given["recipe"]) if given["recipe"] else None
    model = fields.setdefault("model", (named and named.model) or "mlp")
    fields.setdefault("dataset", (named and named.dataset) or "mnist5k")
    recipe = named or _recipe(model, fields["dataset"])
    fields.setdefault("seeds", (0, 1, 2))
    if "graphs" not in fields:
        if is_import_path(model):
            raise InputError(f"the model {model!r} has no graphs of its own; give --graphs")
        fields["graphs"] = default_graphs(model, recipe)
    if not is_import_path(model):
        fields.setdefault("init", recipe.init)
    return StudyConfig(training=dataclasses.replace(recipe.training, **training), **fields)


def _recipe(name: str, dataset: str | None = None) -> Any:
    """The recipe of that name, or the default one of a model."""
    from mpnn_arch.models import MODELS
    from mpnn_arch.studies.import_paths import is_import_path
    from mpnn_arch.training.recipes import RECIPES, Recipe, list_recipes, recipe

    if is_import_path(name):
        return Recipe()
    if name in list_recipes():
        return RECIPES.get(name)()
    MODELS.get(name)  # says what there is
    return recipe(name, dataset)


def _asked_for(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that were given, those of the study and those of its recipe."""
    asked = {name: value for name, value in given.items() if value not in (None, ())}
    asked.pop("recipe", None)
    if "seeds" in asked:
        asked["seeds"] = read_seeds(asked["seeds"])
    for field, option in (("messages", "message"), ("aggrs", "aggr")):
        if field in asked:
            asked[field] = tuple(read_names(option, asked[field]))
    if "race" in asked:
        asked["race"] = read_rungs(asked["race"])
    training = {name: asked.pop(name) for name in _TRAINING_OPTIONS if name in asked}
    return asked, training


def read_rungs(text: str) -> tuple[int, ...]:
    """Numbers of epochs between commas.

    Raises:
        InputError: something else.
    """
    numbers = [read_number(part) for part in text.split(",")]
    if not all(isinstance(number, int) for number in numbers):
        raise InputError(f"--race takes numbers of epochs as 3,9, {text[:100]!r} was given")
    return tuple(numbers)


def read_number(text: str | None) -> Any:
    """A number, or the word that stands in its place."""
    is_number = text is not None and text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if text is not None and is_number else text


class _Progress:
    """A bar over all epochs of the study, and a line for every trial that ends."""

    def __init__(self, console: Console, study: Study) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        counts = study.counts()
        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            "epochs",
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._ended, self._trials = counts.done + counts.failed + counts.stopped, counts.trials
        self._task = self._bar.add_task("", total=counts.epochs_asked, completed=counts.epochs_done)
        self._errors: dict[str, float] = {}
        self.trained = False

    def _total(self, more: int) -> float:
        return (self._bar.tasks[self._task].total or 0) + more

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        kind, what = event["is"], f"{event.get('graph', '')} seed {event.get('seed', '')}"
        if kind == "epoch":
            self.trained = True
            self._errors[event["hash"]] = event["metrics"]["test_error"]
            pace = event.get("images_per_second")
            text = (
                f"{what}: loss {event['metrics']['train_loss']:.3f}, test error "
                f"{event['metrics']['test_error']:.2f} %"
            )
            if pace is not None:
                text += f", {pace:,.0f} images/s"
            self._bar.update(self._task, advance=1, description=text)
        elif kind == "done":
            self._ended += 1
            error = self._errors.pop(event["hash"], None)
            text = "done" if error is None else f"test error {error:.2f} %"
            self._print(f"{self._ended}/{self._trials} {what}: {text}")
        elif kind == "failed":
            self._ended += bool(event["given_up"])
            text = "failed" if event["given_up"] else "failed, will be tried again"
            self._print(f"{what}: {text}: {event['reason']}")
        elif kind == "stopped":
            self._ended += 1
            self._bar.update(self._task, total=self._total(-event["epochs"] + event["rung"]))
            self._print(f"{self._ended}/{self._trials} {what}: stopped, {event['reason']}")
        elif kind == "note":
            self._print(event["text"])

    def _print(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _table(study: Study) -> tuple[Table, int]:
    """Mean test error of every graph, message and aggregation, best first; and rows left out."""
    import statistics

    from rich.table import Table

    from mpnn_arch.studies.export import read_rows

    with study.ledger() as ledger:
        columns, rows = read_rows(ledger)
        found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for values in rows:
            row = dict(zip(columns, values, strict=True))
            found.setdefault((row["graph_spec"], row["message"], row["aggr"]), []).append(row)
    with_message = len({key[1:] for key in found}) > 1
    with_published = any(group[0]["published_top1_error"] for group in found.values())
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("graph", overflow="fold")
    titles = ["message", "aggr"] if with_message else []
    for title in (*titles, "C", "L", "width", "seeds", "test error (%)"):
        table.add_column(title, justify="right")
    if with_published:
        table.add_column("published (%)", justify="right")
    ordered = sorted(
        found.items(), key=lambda item: statistics.fmean(_errors(item[1]) or [float("inf")])
    )
    for (graph, message, aggr), group in ordered[:MOST_SHOWN]:
        errors = _errors(group)
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        first = group[0]
        cells = [
            graph,
            *([message or "-", aggr] if with_message else []),
            *(_number(first[name]) for name in ("clustering_coefficient", "average_path_length")),
            str(first["first_stage_width"] or "-"),
            str(len(group)),
            f"{statistics.fmean(errors):.2f}{spread}" if errors else "-",
        ]
        if with_published:
            cells.append(_number(first["published_top1_error"]))
        table.add_row(*cells)
    return table, max(0, len(ordered) - MOST_SHOWN)


def _errors(group: list[dict[str, Any]]) -> list[float]:
    return [row["top1_error"] for row in group if row["top1_error"] is not None]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
