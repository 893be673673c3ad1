"""Run directories of `mpnn-arch train` before it had a ledger: read, never written."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import shown_path
from mpnn_arch.io.json_text import parse_json
from mpnn_arch.models.saving import read_saved
from mpnn_arch.studies.metrics import MetricsRow
from mpnn_arch.training.checkpoint import generations
from mpnn_arch.training.config import RunConfig
from mpnn_arch.training.loop import EpochMetrics

_COLUMNS = (
    "graph",
    "seed",
    *(field.name for field in dataclasses.fields(EpochMetrics)),
)
_WHOLE = ("seed", "epoch")


class RunDirectory:
    """The folder of one run.

    ::

        config.json      the RunConfig, the hash of every graph and of a user's own data set, and
                         the environment that the run was started in
        metrics.csv      a line per graph, seed and epoch
        weights/         a trained model per graph and seed, with its graph (mpnn_arch.load)
        checkpoints/     unfinished trainings; empty when the run is finished
        results.csv      a line per graph; the same as results.json
        results.json
        curves.png       test error against epochs
        lock             while a process trains: which one

    :meth:`open` opens an existing one.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        graph_hashes: Sequence[str],
        data_hash: str | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.config = config
        self.graph_hashes = tuple(graph_hashes)
        self.data_hash = data_hash
        self.environment = environment

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """The run directory at ``path``.

        Raises:
            InputError: there is none, or its configuration cannot be read.
        """
        path = Path(path)
        file = path / "config.json"
        try:
            text = file.read_bytes() if file.is_file() else None
        except (OSError, ValueError):
            text = None
        if text is None:
            raise InputError(
                f"{shown_path(path)} is not a run directory (it has no config.json that can be "
                "read); check --out"
            )
        try:
            content = parse_json(text)
            run, hashes = content["run"], content["graph_hashes"]
            data_hash, environment = content.get("data_hash"), content.get("environment")
            if not (
                isinstance(hashes, list)
                and all(isinstance(item, str) for item in hashes)
                and isinstance(data_hash, str | None)
                and isinstance(environment, dict | None)
            ):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{file} is not the configuration of a run; start a new one with another --out"
            ) from None
        config = RunConfig.from_mapping(run)
        if len(hashes) != len(config.graphs):
            raise InputError(
                f"{file} has {len(config.graphs)} graphs and {len(hashes)} hashes of graphs; start "
                "a new run with another --out"
            )
        return cls(path, config, hashes, data_hash, environment)

    # -- files ------------------------------------------------------------------------------

    def weights(self, graph: int, seed: int) -> Path:
        """The trained model of the configuration's graph number ``graph``."""
        return self.path / "weights" / f"{self._stem(graph, seed)}.safetensors"

    def checkpoint(self, graph: int, seed: int) -> Path:
        """The checkpoint of that training, while it is unfinished."""
        return self.path / "checkpoints" / f"{self._stem(graph, seed)}.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether every training has its weights."""
        graphs = range(len(self.config.graphs))
        return all(self.weights(g, s).exists() for g in graphs for s in self.config.seeds)

    @property
    def metrics(self) -> Path:
        """The metrics of every epoch."""
        return self.path / "metrics.csv"

    def _stem(self, graph: int, seed: int) -> str:
        # Two specifications can have the same slug; the number distinguishes them.
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", self.config.graphs[graph]).strip("-.")[:80]
        return f"{graph}-{slug}-seed{seed}"

    def read_metrics(self) -> list[MetricsRow]:
        """The lines of ``metrics.csv``; none if it does not exist yet.

        Raises:
            InputError: a line that is not one of metrics, or one that is repeated.
        """
        if not self.metrics.exists():
            return []
        fix = "restore the file, or start a new run"
        try:
            text = self.metrics.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{self.metrics} cannot be read ({error}); {fix}") from None
        lines = csv.reader(io.StringIO(text, newline=""))
        rows: dict[tuple[str, int, int], MetricsRow] = {}
        try:
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    if tuple(line) != _COLUMNS:
                        raise ValueError
                    continue
                row = _row(line)
                key = (row.graph, row.seed, row.epoch)
                if key in rows:
                    raise InputError(
                        f"line {number} of {self.metrics} repeats epoch {row.epoch} of "
                        f"{row.graph} with seed {row.seed}; delete one of the two, or {fix}"
                    )
                rows[key] = row
            if not text.endswith("\n"):  # cut short, or empty
                raise ValueError
        except (ValueError, csv.Error) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"line {max(lines.line_num, 1)} of {self.metrics} is not a line of metrics; {fix}"
            ) from None
        return list(rows.values())

    def checked_metrics(self) -> list[MetricsRow]:
        """The metrics, all of them of this run; a warning names a test loss that is not finite.

        Raises:
            InputError: as for :meth:`read_metrics`, or a line of another run.
        """
        rows = self.read_metrics()
        for row in rows:
            if (
                row.graph not in self.config.graphs
                or row.seed not in self.config.seeds
                or row.epoch > self.config.training.epochs
            ):
                raise InputError(
                    f"{self.metrics} has epoch {row.epoch} of {row.graph[:80]} with seed "
                    f"{row.seed}, which this run does not train; restore the file, or start a new "
                    "run"
                )
            if not math.isfinite(row.test_loss):
                warnings.warn(
                    f"{self.metrics}: the test loss of {row.graph} with seed {row.seed} is "
                    f"{row.test_loss} after epoch {row.epoch}",
                    stacklevel=2,
                )
        return rows

    def check_epochs(self, rows: Iterable[MetricsRow], graph: int, seed: int, last: int) -> None:
        """Check that ``rows`` have the epochs 1 to ``last`` of a training, which are trained.

        Raises:
            InputError: one is missing.
        """
        text = self.config.graphs[graph]
        present = {row.epoch for row in rows if (row.graph, row.seed) == (text, seed)}
        missing = sorted(set(range(1, last + 1)) - present)
        if missing:
            weights = self.weights(graph, seed)
            trained = [weights] if weights.exists() else []
            trained += generations(self.checkpoint(graph, seed))
            raise InputError(
                f"{self.metrics} lacks epoch {missing[0]} of {text} with seed {seed}, which is "
                f"trained; restore the file, or delete {' and '.join(map(str, trained))} to train "
                "it again"
            )

    def check_finished(self, rows: Iterable[MetricsRow], graph: int, seed: int) -> None:
        """Check that a training's weights are whole and its own, and its metrics complete.

        Raises:
            InputError: a file that is damaged, empty, forged or of another training, or an epoch
                without metrics.
        """
        path, fix = self.weights(graph, seed), "or delete it to train it again"
        try:
            saved = read_saved(path)
        except InputError as error:
            raise InputError(f"{error}, {fix}") from None
        digest = saved.graphs[0].content_hash if saved.graphs else "none"
        found = (saved.config["model"], saved.config.get("seed"), digest)
        if found != (self.config.model, seed, self.graph_hashes[graph]):
            raise InputError(
                f"{path} is not the {self.config.model} that this run trained there with seed "
                f"{seed}, but a {found[0]} with seed {found[1]} on the graph {found[2][:8]}; "
                f"restore it, {fix}"
            )
        self.check_epochs(rows, graph, seed, self.config.training.epochs)


def _row(line: Sequence[str]) -> MetricsRow:
    """One line of ``metrics.csv``.

    Raises:
        ValueError: not one that was written there.
    """
    values: dict[str, Any] = {
        name: _read(name, text) for name, text in zip(_COLUMNS, line, strict=True)
    }
    row = MetricsRow(**values)
    positive = (row.learning_rate, row.train_loss, row.seconds)
    percent = (row.train_error, row.test_error)
    if not (
        row.epoch >= 1
        and all(math.isfinite(number) and number >= 0 for number in positive)
        and all(0 <= number <= 100 for number in percent)
    ):
        raise ValueError
    return row


def _read(name: str, text: str) -> str | int | float:
    if name == "graph":
        return text
    # Python's int and float also take underscores, spaces and the digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,19}" if name in _WHOLE else r"[-+.0-9a-z]{1,40}", text):
        raise ValueError
    return int(text) if name in _WHOLE else float(text)
