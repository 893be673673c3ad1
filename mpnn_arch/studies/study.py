"""A study: a folder with a ledger, made once, run until its trials are done."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpnn_arch.checks import check_path
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import check_folder, make_folder, remove, sync, write_error
from mpnn_arch.io.lock import FolderLock
from mpnn_arch.io.temporary import new_temporary_folder, sweep
from mpnn_arch.studies import import_paths
from mpnn_arch.studies.crash import crash_point
from mpnn_arch.studies.description import (
    asked_for,
    new_description,
    read_description,
    write_description,
)
from mpnn_arch.studies.ledger import Counts, Ledger

if TYPE_CHECKING:
    import pandas as pd

    from mpnn_arch.graphs import RelationalGraph
    from mpnn_arch.studies.config import StudyConfig
    from mpnn_arch.studies.interrupts import Interrupts
    from mpnn_arch.studies.listeners import Listener
    from mpnn_arch.studies.recording import Recorder
    from mpnn_arch.studies.runners import Runner
    from mpnn_arch.studies.trial import Trial


class ExistsError(InputError):
    """There is something where a new study was to be made."""


class Study:
    """A set of trials with a ledger.

    ::

        study.json       what was asked, versions, machine
        ledger.sqlite    a row per trial, a row per epoch
        checkpoints/     trainings under way; empty when the study is done
        weights/         trained models, one file per trial, as the setting ``weights`` says
        report/          findings, where ``mpnn-arch sweep`` wrote them
        lock             which process runs it, while one does

    Make one with :meth:`create`, open one that is there with :meth:`open`. Opening imports nothing
    that the study names.

    ::

        config = StudyConfig(model="mlp", dataset="mnist5k", graphs=("sample:64/52",), seeds=(0, 1))
        study = Study.create("runs/sweep", config)
        study.run(workers=2)  # stopped at any moment, the same call goes on
        study.table()

    Example:
        >>> from mpnn_arch.studies import Study, StudyConfig
        >>> config = StudyConfig(model="mlp", dataset="digits", graphs=("ring:16,4",), seeds=(0, 1))
        >>> study = Study.create("runs", config)
        >>> study.counts().trials
        2
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = check_path(path)
        self._folder = self.path.absolute()  # wherever the current folder is when it is run
        self._about = about

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: StudyConfig,
        *,
        data_root: str | Path | None = None,
        command: str = "sweep",
    ) -> Study:
        """A new folder with every trial queued; it appears whole or not at all.

        Args:
            path: the folder; it must not be there yet.
            config: what to train.
            data_root: see :func:`mpnn_arch.training.data.load_dataset`.
            command: of ``mpnn-arch``, with which it goes on.

        Raises:
            InputError: the folder exists, or ``config`` names what does not exist or fit.
        """
        path = check_folder(path)
        if path.exists():
            raise _exists_error(path)
        from mpnn_arch.studies.plan import plan

        graphs, trials = plan(config, data_root)
        try:
            made = cls(path, new_description(config, trials, command))
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            temporary = new_temporary_folder(path.parent)
        except OSError as error:
            raise write_error(path, error) from None
        try:
            # One within, which has the permissions and the group that a folder made there has; the
            # temporary one is for its owner alone.
            new = temporary / "study"
            for folder in (new, new / "checkpoints", new / "weights"):
                folder.mkdir()
            write_description(new, made._about)
            _fill(new / "ledger.sqlite", trials, graphs, _first(config))
            crash_point("study.folder")
            os.rename(new, path)
            sync(path.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another has just made it
                raise _exists_error(path) from None
            # A full disk, with the path of the temporary folder.
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            raise write_error(path, cause) from None
        except InputError as error:  # of the ledger, with the same path
            raise InputError(str(error).replace(str(new), str(path))) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return made

    @classmethod
    def open(cls, path: str | Path) -> Study:
        """The study in the folder ``path``.

        Raises:
            InputError: there is none, or its description cannot be read.
        """
        path = check_path(path)
        return cls(path, read_description(path))

    @property
    def config(self) -> StudyConfig:
        """What was asked for."""
        from mpnn_arch.studies.config import StudyConfig

        return StudyConfig.from_dict(self._about["config"])

    @property
    def command(self) -> str:
        """The command of ``mpnn-arch`` with which it goes on."""
        return str(self._about.get("made", {}).get("command", "sweep"))

    @property
    def race(self) -> tuple[int, ...]:
        """Epochs after which the worse graphs are stopped; empty if all are trained to the end."""
        return tuple(self._about["config"].get("race", ()))

    def ledger(self) -> Ledger:
        """The ledger, opened for reading, also while the study runs; use it in ``with``."""
        return Ledger(self._folder / "ledger.sqlite")

    def counts(self) -> Counts:
        """How far the study is."""
        with self.ledger() as ledger:
            return ledger.counts()

    def table(self, *, all_epochs: bool = False) -> pd.DataFrame:
        """Results as ``mpnn-arch export`` writes them, a row per trial or a row per epoch.

        Args:
            all_epochs: every epoch, also of trials under way; else the last of those that are done.

        Raises:
            InputError: pandas is not installed.
        """
        from mpnn_arch.studies.export import read_rows

        try:
            import pandas as pd
        except ImportError:
            raise InputError(
                'a table needs pandas, which is not installed: pip install "mpnn-arch[graphs]"'
            ) from None
        with self.ledger() as ledger:
            columns, rows = read_rows(ledger, all_epochs=all_epochs)
            return pd.DataFrame(list(rows), columns=list(columns))

    def extend(
        self, config: StudyConfig, *, data_root: str | Path | None = None, trust: bool = False
    ) -> int:
        """Add graphs, seeds, messages or aggregations; return how many trials that adds.

        Args:
            config: with the same recipe and settings; what it has beyond the study's is added.
            data_root: see :func:`mpnn_arch.training.data.load_dataset`.
            trust: as for :meth:`run`; what is added is yours, what is there may not be.

        Raises:
            InputError: it differs in anything else, another process runs the study, or what is
                there (``study.json``, a graph's file, the data) is not as the study was made.
        """
        from mpnn_arch.studies import unchanged
        from mpnn_arch.studies.plan import plan
        from mpnn_arch.studies.writer import LedgerWriter

        with self._lock():
            self._about = type(self).open(self._folder)._about
            with self.ledger() as known:
                self.check_trust(known, trust)
                after = self.config.merged(config)
                specs = self._about["config"]["graphs"]
                unchanged.check_files(specs, known)
                graphs, trials = plan(after, data_root, unchanged.without_file(specs, known))
                unchanged.check_data_of(known, trials)
                asked = asked_for(self._about["id"], after, trials)
                changed = dict(self._about["sources"]).items() - asked["sources"].items()
                if changed:
                    raise InputError(
                        f"the file of {sorted(changed)[0][0]!r} was changed since the study was "
                        "made with it; restore the file, or make a new study"
                    )
                unchanged.check_described(known, trials)
            self._about = {**self._about, **asked}
            write_description(self._folder, self._about)
            crash_point("study.described")
            with LedgerWriter(self._folder / "ledger.sqlite") as ledger, ledger.transaction():
                return ledger.add_trials(trials, graphs, until=_first(after))

    def run(
        self,
        *,
        workers: int | Literal["auto"] | None = None,
        threads: int | None = None,
        device: str = "auto",
        data_root: str | Path | None = None,
        trust: bool = False,
        retry_failed: bool = False,
        population: Literal["auto", "off"] | int | None = None,
        runner: Runner | None = None,
        cuda_graphs: bool = False,
        timeout: float | None = None,
        watch: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> Counts:
        """Train what is not done yet, in worker processes; return how far the study is then.

        Stopped at any moment, also by SIGKILL, the same call goes on where it was: at most the
        epoch in flight is trained again.

        Args:
            workers: processes; None: one per core, or one on a GPU; ``"auto"``: on a CPU the
                number of processes and of threads that trains most steps per second in a short
                trial; 0: the trials are trained in this process, one after another.
            threads: of torch in each; None: the cores shared among the workers, and without workers
                what torch has, at most one per core. A trial that was begun keeps its number, and
                with it its bits.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:0``.
            data_root: see :func:`mpnn_arch.training.data.load_dataset`.
            trust: run models, data sets and messages by import path although the study was not
                made by this user on this machine.
            retry_failed: give trials that failed three attempts more.
            population: how many MLPs a worker trains side by side, see
                :func:`mpnn_arch.training.train_population`: ``"auto"`` as a short timed trial and
                the memory say, ``"off"`` or 1 each alone; None: as in the run before, else
                ``"auto"``, and ``"off"`` without workers and for the studies of ``train`` and
                ``compare``. Which trials are trained together is fixed in the ledger when a
                training begins.
            runner: where the workers are; None: on this machine.
            cuda_graphs: capture each training's step as one CUDA graph, see
                :class:`mpnn_arch.training.Trainer`; each network is trained alone.
            timeout: seconds, more than the longest epoch and what comes before the first take: a
                trial that gives no epoch for so long is ended, as if its worker had been killed,
                and gets the attempts of one that failed. Needs workers on this machine.
            watch: called with every event after it is recorded: a dictionary whose ``is`` is
                ``epoch``, ``done``, ``failed``, ``waiting``, ``stopped`` or ``note``.

        Raises:
            InputError: another process runs the study, the folder cannot be written, CUDA graphs
                are asked for without a CUDA device, or a training that was begun would go on to
                other bits here.
            KeyboardInterrupt: Ctrl-C; all that was given by workers is recorded.
        """
        from mpnn_arch.studies import unchanged
        from mpnn_arch.studies.begun import check_begun
        from mpnn_arch.studies.interrupts import Interrupts
        from mpnn_arch.studies.recording import Recorder
        from mpnn_arch.studies.run_options import alone, check_run_options
        from mpnn_arch.studies.runners import Runner, check_processes
        from mpnn_arch.studies.writer import LedgerWriter
        from mpnn_arch.training.defaults import torch_as_started

        check_run_options(workers, threads, population, timeout)
        config, runner = self.config, runner or Runner()
        runner.check_timeout(workers, timeout)
        if cuda_graphs:
            population = alone(population)
        settings = runner.settings(
            workers=workers,
            threads=threads,
            device=device,
            data_root=None if data_root is None else str(data_root),
            weights=config.weights,
            race=config.race,
            keep=config.keep,
            cuda_graphs=cuda_graphs,
            timeout=timeout,
        )
        with torch_as_started(), Interrupts() as interrupts, self._lock() as lock:
            self._about = type(self).open(self._folder)._about  # another may have extended it
            with LedgerWriter(self._folder / "ledger.sqlite", lock) as ledger:
                self.check_trust(ledger, trust)
                with interrupts.raised():
                    unchanged.check_files(self._about["config"]["graphs"], ledger)
                    self._complete(ledger, data_root)
                with ledger.transaction():
                    ledger.requeue(failed=retry_failed)
                    ledger.store_setting("pace", None)  # of the driver before
                check_processes(ledger.begun(), runner.processes_text)
                self._sweep_up(ledger)
                if lock.taken_over_from is not None:
                    _note(watch, f"goes on after {lock.taken_over_from}")
                recorder = Recorder(self._folder, ledger, settings)
                if runner.name == "local":  # the machines of other workers are not known here
                    check_begun(recorder)
                # Nobody is started, and no cluster waited for, where nothing is left to train.
                if recorder.queued_jobs(1) or recorder.go_on(watch):
                    self._train(recorder, runner, interrupts, watch, workers == "auto", population)
                self._sweep_temporary()
                return ledger.counts()

    def _train(
        self,
        recorder: Recorder,
        runner: Runner,
        interrupts: Interrupts,
        watch: Listener,
        sized: bool,
        population: Literal["auto", "off"] | int | None,
    ) -> None:
        """Train what is queued: in this process, or by the workers of a pool, if ``sized`` of as
        many as a short trial says."""
        from mpnn_arch.studies.in_process import InProcess
        from mpnn_arch.studies.runner import Driver
        from mpnn_arch.studies.sizing import choose_workers
        from mpnn_arch.training.cores import available_cores

        if recorder.settings.workers == 0 and runner.name == "local":
            if population is not None:
                with interrupts.raised():
                    self._plan(recorder, population, watch)
            InProcess(recorder, watch=watch).run(interrupts)
            return
        with runner.open(self._folder, recorder.settings) as make_pool:
            if sized and runner.sizes(recorder.settings):
                cores = available_cores()
                _note(watch, choose_workers(recorder, make_pool, cores, lambda: interrupts.asked))
            with interrupts.raised():
                self._plan(recorder, runner.population(population), watch)
            pool = make_pool(recorder.settings.workers)
            Driver(recorder, watch=watch, pool=pool).run(interrupts)

    def _plan(self, recorder: Recorder, population: Any, watch: Listener) -> None:
        """Fix which trials are trained together."""
        from mpnn_arch.studies.populations import plan_populations

        # The few networks of the other commands have the bits of single trainings.
        default: Literal["auto", "off"] = "auto" if self.command == "sweep" else "off"
        _note(watch, plan_populations(recorder, population, default))

    def _complete(self, ledger: Any, data_root: str | Path | None) -> None:
        """Queue trials that ``study.json`` names and the ledger lacks, after a stop."""
        (row,) = ledger.query("SELECT count(*) AS trials FROM trial")
        if row["trials"] < self._about["trials"]:
            from mpnn_arch.studies import unchanged
            from mpnn_arch.studies.plan import plan

            kept = unchanged.without_file(self._about["config"]["graphs"], ledger)
            graphs, trials = plan(self.config, data_root, kept)
            unchanged.check_data_of(ledger, trials)
            with ledger.transaction():
                ledger.add_trials(trials, graphs, until=_first(self.config))

    def check_trust(self, ledger: Ledger, trust: bool) -> None:
        """Whether what the study names by import path may be imported.

        Raises:
            InputError: it may not.
        """
        config = self._about["config"]
        named = (config["model"], config["dataset"], *config["messages"], *config["aggrs"])
        # One that stands in the configuration alone is not signed, and so not trusted.
        sources = {name: "" for name in named if name and import_paths.is_import_path(name)}
        sources |= self._about["sources"]
        for row in ledger.query("SELECT spec FROM trial WHERE instr(spec, '\"sources\":[]') = 0"):
            sources |= dict(json.loads(row["spec"]).get("sources", ()))
        signature = str(self._about["signature"])
        if not sources or trust or import_paths.is_signed(signature, self._about["id"], sources):
            return
        raise InputError(
            f"the study {self.path} was not made by you on this machine and would run code by "
            f"import path ({', '.join(sorted(sources))}); look at it, and give --trust"
        )

    def _sweep_up(self, ledger: Any) -> None:
        """Remove what a stop left: half-written files, checkpoints of trials that are done."""
        from mpnn_arch.studies.recording import keep_best_weights

        self._sweep_temporary()
        ended = (
            "SELECT 1 FROM trial WHERE hash = ? AND state IN ('done', 'stopped')",
            "SELECT 1 FROM population WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM trial WHERE"
            " trial.population = population.id AND state IN ('queued', 'running', 'waiting'))",
        )
        for path in (self._folder / "checkpoints").iterdir():
            hash = path.name.partition(".")[0]
            if any(list(ledger.query(sql, hash)) for sql in ended):
                remove(path)
        if self._about["config"].get("weights") == "best":
            keep_best_weights(self._folder, ledger)

    def _sweep_temporary(self) -> None:
        """Remove what workers that were killed had half written."""
        for folder in ("checkpoints", "weights"):
            # Archives and git leave out a folder that is empty, as that of a study that is done.
            sweep(make_folder(self._folder / folder))

    def _lock(self) -> FolderLock:
        return FolderLock(self._folder / "lock", f"the study {self.path}")


def _note(watch: Listener, text: str | None) -> None:
    if text is not None:
        watch({"is": "note", "text": text})


def _exists_error(path: Path) -> ExistsError:
    return ExistsError(f"{path} exists already; open the study in it, or choose another folder")


def _first(config: StudyConfig) -> int | None:
    """Epochs to train first: up to the lowest rung of a race."""
    return config.race[0] if config.race else None


def _fill(
    path: Path, trials: Sequence[Trial], graphs: dict[str, RelationalGraph], until: int | None
) -> None:
    from mpnn_arch.studies.writer import LedgerWriter

    with LedgerWriter.create(path) as ledger, ledger.transaction():
        ledger.add_trials(trials, graphs, until=until)
