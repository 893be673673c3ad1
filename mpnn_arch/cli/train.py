"""``mpnn-arch train``: one model on several graphs at equal cost."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpnn_arch.checks import parse_whole, shown
from mpnn_arch.cli.numbers import MOST_SEEDS, check_count
from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mpnn_arch.training.config import RunConfig
    from mpnn_arch.training.experiment import GraphResult
    from mpnn_arch.training.run_directory import MetricsRow, RunDirectory


@click.command()
@click.option("--model", help="See `mpnn-arch models`.  [default: mlp]")
@click.option(
    "--dataset",
    help="mnist5k, mnist1d, digits, cifar10 or imagenet; a folder of images, train/CLASS/ and "
    "test/CLASS/; or a function of yours, module:function, which is imported.  [default: mnist5k]",
)
@click.option(
    "--recipe", help="Model, data and training by name, such as mlp_cifar10.  [default: by model]"
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value of the recipe, such as label_smoothing=0.1; repeat it for more.",
)
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    help="A relational graph, such as ws_flex:64,12,0.15,0 or complete:64; repeat it to compare.  "
    "[default: the model's default graph and the complete graph]",
)
@click.option("--seeds", help="A number (3: seeds 0, 1, 2) or a list (0,5,7).  [default: 3]")
@click.option("--epochs", type=int, help="Passes over the training images.  [default: by model]")
@click.option("--batch-size", type=int, help="Images per step.  [default: by model]")
@click.option("--learning-rate", type=float, help="Initial learning rate.  [default: by model]")
@click.option("--weight-decay", type=float, help="[default: by model]")
@click.option("--init", help="Initialisation: published or kaiming.  [default: by model]")
@click.option("--backend", help="Backend of the rounds, such as reference.  [default: the fastest]")
@click.option("--width-multiplier", type=float, help="Scales the dense model.  [default: 1]")
@click.option("--train-images", type=int, help="Number of training images.  [default: all]")
@click.option("--test-images", type=int, help="Number of test images.  [default: all]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run directory.  [default: runs/MODEL-DATASET-TIME]",
)
@click.option("--resume", is_flag=True, help="Resume the interrupted run in --out.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder of downloaded data.  [default: $MPNN_ARCH_DATA, else ~/.cache/mpnn_arch]",
)
def train(
    *,
    out: Path | None,
    resume: bool,
    device: str,
    data_root: Path | None,
    **given: Any,
) -> None:
    """Train a model on relational graphs and compare them.

    On every graph the widths are matched to the cost of the dense model. The run directory holds
    configuration, metrics, weights, a table and a figure. Ctrl-C interrupts the run; --resume
    continues it with the same result.
    """
    from rich.console import Console
    from rich.markup import escape

    if resume and out is None:
        raise InputError("--resume needs --out with the run directory to resume")
    console = Console()
    if not console.is_terminal:
        console.width = 110  # do not wrap at 80 columns in a file
    errors = Console(stderr=True)
    with errors.status("loading torch, data and graphs"):
        from mpnn_arch.training.data import short_name
        from mpnn_arch.training.devices import find_device
        from mpnn_arch.training.experiment import start_run, train_run
        from mpnn_arch.training.recipes import recipe_note
        from mpnn_arch.training.run_directory import RunDirectory

        where = find_device(device)
        if resume:
            assert out is not None
            run = RunDirectory.open(out)
            _check_same(run.config, given)
            _check_named(run, given)
            check_backend(run.config.backend, where.type)
        else:
            config = _configure(given)
            check_backend(config.backend, where.type)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            path = out or Path("runs") / f"{config.model}-{short_name(config.dataset)}-{stamp}"
            run = start_run(path, config, data_root=data_root)
    config = run.config
    console.print(
        f"[bold]{config.model}[/bold] on [bold]{escape(config.dataset)}[/bold]: "
        f"{len(config.graphs)} graphs, {len(config.seeds)} seeds, {config.training.epochs} epochs, "
        f"on {where}",
        highlight=False,
        soft_wrap=True,
    )
    note = recipe_note(config.model, config.training, config.dataset)
    if note and config.recipe is None:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    try:
        with _Progress(errors, run) as progress:
            results = train_run(run, device=where, data_root=data_root, watch=progress)
    except KeyboardInterrupt:
        errors.print(
            f"interrupted; to continue: mpnn-arch train --out {run.path} --resume{_named(run)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        sys.exit(130)
    console.print(_table(results))
    console.print(f"run directory: {run.path}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"figure: {run.plot}", highlight=False, markup=False, soft_wrap=True)


_TRAINING_OPTIONS = ("epochs", "batch_size", "learning_rate", "weight_decay")


def _configure(given: dict[str, Any]) -> RunConfig:
    """The configuration from the options, completed by the model's recipe."""
    import dataclasses

    from mpnn_arch.training.config import RunConfig
    from mpnn_arch.training.recipes import RECIPES, default_graphs, recipe

    run, training = _split_options(given)
    if "recipe" in run:
        found = RECIPES.get(run["recipe"])()
        if run.setdefault("model", found.model) != found.model:
            raise InputError(
                f"the recipe {run['recipe']!r} is for {found.model}, not {run['model']}; leave out "
                "--model, or --recipe"
            )
        run.setdefault("dataset", found.dataset)
    else:
        run.setdefault("dataset", "mnist5k")
        found = recipe(run.setdefault("model", "mlp"), run["dataset"])
    run.setdefault("seeds", tuple(range(found.seeds)))
    if "graphs" not in run:
        run["graphs"] = default_graphs(run["model"], found)
    run.setdefault("init", found.init)
    return RunConfig(training=dataclasses.replace(found.training, **training), **run)


def _check_same(config: RunConfig, given: dict[str, Any]) -> None:
    """Options given with --resume must equal those that the run was started with."""
    for options, part in zip(_split_options(given), (config, config.training), strict=True):
        for name, value in options.items():
            started = getattr(part, name)
            if value != started:
                raise InputError(
                    f"the run was started with {name} {_shown(started)}, not {_shown(value)}; "
                    "leave the option out to resume it, or start a new run"
                )


def _named(run: RunDirectory) -> str:
    """The option that --resume needs beside it: a user's function must be named in every run."""
    from mpnn_arch.training.own_data import is_function_name

    return f" --dataset {run.config.dataset}" if is_function_name(run.config.dataset) else ""


def _check_named(run: RunDirectory, given: dict[str, Any]) -> None:
    """Refuse to import code because a file of the run directory names it."""
    if _named(run) and given["dataset"] is None:
        raise InputError(
            f"{run.path} trains on what the function {run.config.dataset} returns, and code is "
            f"only run where it is named; add{_named(run)}"
        )


def check_backend(backend: str | None, device: str) -> None:
    """A backend that cannot run on this device must not be replaced by another silently."""
    import torch

    from mpnn_arch.kernels.backends import check_name, unavailable_reason

    if backend in (None, "auto", "reference"):
        return
    check_name(backend, "auto", "reference")
    reason = unavailable_reason(backend, device, torch.float32)
    if reason:
        raise InputError(f"--backend {backend} cannot be used: {reason}; leave it out")


def _shown(value: Any) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _split_options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The given options: those of the run, and those of its recipe."""
    from mpnn_arch.training.data import full_name

    options = {name: value for name, value in given.items() if value not in (None, ())}
    if "dataset" in options:
        options["dataset"] = full_name(options["dataset"])
    if "seeds" in options:
        options["seeds"] = read_seeds(options["seeds"])
    training = {name: options.pop(name) for name in _TRAINING_OPTIONS if name in options}
    for name, value in _settings(options.pop("settings", ())).items():
        if training.setdefault(name, value) != value:
            option = name.replace("_", "-")
            raise InputError(
                f"--{option} {training[name]} and --set {name}={value} contradict each other; give "
                "one of them"
            )
    return options, training


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    """``("flip=true", ...)`` as values of a recipe."""
    if not texts:
        return {}
    from mpnn_arch.training.recipes import set_values

    settings = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or name.strip() in settings:
            raise InputError(
                f"--set {text!r} is no NAME=VALUE, or names a value twice; give each once, as "
                "--set weight_decay=1e-4"
            )
        settings[name.strip()] = value
    return set_values(settings)


def read_seeds(text: str) -> tuple[int, ...]:
    """``"3"`` gives seeds 0, 1, 2; ``"0,5"`` and ``"5,"`` give the listed ones."""
    try:
        numbers = [parse_whole(part) for part in text.split(",") if part.strip()]
    except InputError:
        numbers = []
    if "," not in text and numbers:
        check_count("seeds", max(numbers[0], 1), MOST_SEEDS)
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] < 1):
        raise InputError(
            f"--seeds {shown(text)} is neither a number of seeds, such as 3, nor a list, "
            "such as 0,1,2"
        )
    return tuple(numbers) if "," in text else tuple(range(numbers[0]))


class _Progress:
    """A progress bar over all epochs of the run, and a line for every finished training."""

    def __init__(self, console: Console, run: RunDirectory) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self._epochs = run.config.training.epochs
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
        total = len(run.config.graphs) * len(run.config.seeds) * self._epochs
        self._task = self._bar.add_task("", total=total, completed=len(run.read_metrics()))

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, row: MetricsRow) -> None:
        what = f"{row.graph} seed {row.seed}"
        self._bar.update(
            self._task, advance=1, description=f"{what}: test error {row.test_error:.2f} %"
        )
        if row.epoch == self._epochs:
            self._bar.console.print(
                f"{what}: test error {row.test_error:.2f} %", highlight=False, soft_wrap=True
            )


def _table(results: list[GraphResult]) -> Table:
    from rich.table import Table

    # Narrow enough for 80 columns in the usual case.
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("graph", no_wrap=True)
    titles = (
        "C",
        "L",
        "width",
        "param-\neters",
        "multiply-\nadds",
        "test error\n(%)",
        "s per\nepoch",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=title != "width")
    for r in results:
        deviation = "" if r.test_error_deviation is None else f" ± {r.test_error_deviation:.2f}"
        table.add_row(
            r.graph,
            f"{r.clustering_coefficient:.2f}",
            f"{r.average_path_length:.2f}",
            " ".join(str(width) for width in r.widths),
            f"{r.parameters:,}",
            f"{r.multiply_adds:,}",
            f"{r.test_error_mean:.2f}{deviation}",
            f"{r.seconds_per_epoch:.2f}",
        )
    return table
