"""Running a study from the command line: its progress, how it ends, what is said at the end."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpnn_arch.checks import counted
from mpnn_arch.cli.output import new_console
from mpnn_arch.cli.progress import open_listeners
from mpnn_arch.cli.runner_options import NAMES, make_runner
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import typed_path

if TYPE_CHECKING:
    from rich.console import Console

    from mpnn_arch.cli.defaults import Defaults
    from mpnn_arch.studies.study import Study


def consoles(quiet: bool) -> tuple[Console, Console]:
    """For what a command prints on standard output, and for its progress on standard error."""
    console = new_console()
    if not console.is_terminal:
        console.width = 110  # do not wrap at 80 columns in a file
    return console, new_console(stderr=True, quiet=quiet)


@dataclass(frozen=True, kw_only=True)
class Running:
    """The values of ``mpnn_arch.cli.options.study_options`` that say how a study is run."""

    out: Path | None
    resume: bool
    extend: bool
    retry_failed: bool
    trust: bool
    workers: int | Literal["auto"] | None
    threads: int | None
    population: int | Literal["auto", "off"] | None
    device: str
    data_root: Path | None
    log_json: Path | None
    tensorboard: Path | None
    runner: str
    ray_address: str | None
    cluster: str
    job: tuple[str, ...]
    parallel: str
    cuda_graphs: bool
    timeout: float | None


def split(options: dict[str, Any]) -> tuple[dict[str, Any], Running]:
    """The options of a command that say what is trained, and those that say how."""
    names = [field.name for field in fields(Running)]
    given = {name: value for name, value in options.items() if name not in names}
    return given, Running(**{name: options[name] for name in names})


def run_study(
    defaults: Defaults,
    given: dict[str, Any],
    how: Running,
    console: Console,
    errors: Console,
    *,
    headline: bool,
) -> tuple[Study, bool]:
    """Find or make the study that the options ask for, and run it to its end.

    Ctrl-C ends the process with exit code 130 after saying how to go on.

    Args:
        defaults: of the command.
        given, how: from :func:`split`.
        console, errors: from :func:`consoles`.
        headline: whether a line says first what is trained.

    Returns:
        The study, and whether an epoch was trained.

    Raises:
        InputError: as for ``find_study`` and ``Study.run``.
    """
    from mpnn_arch.studies.listeners import several
    from mpnn_arch.studies.run_options import alone, check_run_options

    study: Study | None = None
    runner = make_runner({name: getattr(how, name) for name in NAMES})
    workers = defaults.workers if how.workers is None else how.workers
    check_run_options(workers, how.threads, how.population, how.timeout)
    runner.check_timeout(workers, how.timeout)
    try:
        with open_listeners(log_json=how.log_json, tensorboard=how.tensorboard) as listeners:
            with errors.status("loading torch, data and graphs"):
                from mpnn_arch.cli.asked import find_study, is_there

                # What Study.run refuses, before a folder is made.
                graphs = how.cuda_graphs
                settings = runner.settings(
                    workers=workers, threads=how.threads, device=how.device, cuda_graphs=graphs
                )
                if how.out is None or not is_there(how.out):  # one that is done needs no worker
                    runner.check_system(settings.workers)
                runner.population(alone(how.population) if graphs else how.population)
                study = find_study(
                    defaults,
                    given,
                    out=how.out,
                    resume=how.resume,
                    extend=how.extend,
                    trust=how.trust,
                    data_root=how.data_root,
                    # The device of a remote worker is not one of this machine.
                    device=how.device if runner.name == "local" else "cpu",
                    population=how.population,
                )
            if headline:
                _say_what(study, console, how.device)
            with _Progress(errors, study) as progress:
                study.run(
                    workers=workers,
                    threads=how.threads,
                    device=how.device,
                    data_root=how.data_root,
                    trust=how.trust,
                    retry_failed=how.retry_failed,
                    population=how.population,
                    runner=runner,
                    cuda_graphs=how.cuda_graphs,
                    timeout=how.timeout,
                    watch=several(progress, *listeners),
                )
    except KeyboardInterrupt:
        if study is not None:
            say(errors, f"interrupted; {_to_continue(defaults, study)}")
        sys.exit(130)
    except InputError:
        if study is not None and how.out is None:  # the same command would begin another study
            say(errors, _to_continue(defaults, study))
        raise
    return study, progress.trained


def _to_continue(defaults: Defaults, study: Study) -> str:
    return f"to continue: mpnn-arch {defaults.command} --out {typed_path(study.path)} --resume"


def end(study: Study, console: Console) -> None:
    """Say where the study is, and why trials failed; the exit code is 1 if some did."""
    from mpnn_arch.studies.results import failures

    with study.ledger() as ledger:
        reasons = list(failures(ledger))
        trials = ledger.counts().trials
    say(console, f"study: {study.path}")
    if reasons:
        failed = sum(count for _, count in reasons)
        say(console, f"{failed} of {trials} trials failed: {reasons[0][0]}")
        say(console, f"all reasons: mpnn-arch status {typed_path(study.path)}")
        sys.exit(1)


def say(console: Console, text: str) -> None:
    """One line as it is, however long."""
    console.print(text, highlight=False, soft_wrap=True)


def _say_what(study: Study, console: Console, device: str) -> None:
    from rich.markup import escape

    from mpnn_arch.training.devices import find_device
    from mpnn_arch.training.recipes import recipe_note

    config, counts = study.config, study.counts()
    console.print(
        f"[bold]{escape(config.model)}[/bold] on [bold]{escape(config.dataset)}[/bold]: "
        f"{counted(counts.trials // len(config.seeds), 'network')}, "
        f"{counted(len(config.seeds), 'seed')}, {counted(config.training.epochs, 'epoch')}, "
        f"on {find_device(device)}",
        highlight=False,
        markup=True,
        soft_wrap=True,
    )
    own = config.model in config.import_paths
    note = None if own else recipe_note(config.model, config.training, config.dataset)
    if note and config.recipe is None:
        say(console, note)


class _Progress:
    """A bar over all epochs of the study, and a line for every trial that ends."""

    def __init__(self, console: Console, study: Study) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        counts = study.counts()
        config = study.config
        self._swapped = len(config.messages) * len(config.aggrs) > 1
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
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

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        kind, what = event["is"], self._name(event)
        if kind == "epoch":
            self.trained = True
            error = event["metrics"]["test_error"]
            text = f"{what}: loss {event['metrics']['train_loss']:.3f}"
            if math.isfinite(error):
                self._errors[event["hash"]] = error
            if event["hash"] in self._errors:
                text += f", test error {self._errors[event['hash']]:.2f} %"
            pace = event.get("images_per_second")
            if pace is not None:
                text += f", {pace:,.0f} images/s"
            self._bar.update(self._task, advance=1, description=text)
        elif kind == "done":
            self._ended += 1
            error = self._errors.pop(event["hash"], None)
            text = "done" if error is None else f"test error {error:.2f} %"
            say(self._bar.console, f"{self._ended}/{self._trials} {what}: {text}")
        elif kind == "failed":
            self._ended += bool(event["given_up"])
            text = "failed" if event["given_up"] else "failed, will be tried again"
            say(self._bar.console, f"{what}: {text}: {event['reason']}")
        elif kind == "stopped":
            self._ended += 1
            total = (self._bar.tasks[self._task].total or 0) - event["epochs"] + event["rung"]
            self._bar.update(self._task, total=total)
            say(
                self._bar.console,
                f"{self._ended}/{self._trials} {what}: stopped, {event['reason']}",
            )
        elif kind == "note":
            say(self._bar.console, event["text"])

    def _name(self, event: dict[str, Any]) -> str:
        swap = (event.get("message") or "", event.get("aggr", "")) if self._swapped else ()
        parts = (event.get("graph", ""), *swap, "seed", str(event.get("seed", "")))
        return " ".join(part for part in parts if part)
