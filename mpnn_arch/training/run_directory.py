"""The files of a run, laid out so that it can be resumed at any time."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_text
from mpnn_arch.training.config import RunConfig
from mpnn_arch.training.trainer import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class MetricsRow(EpochMetrics):
    """One line of ``metrics.csv``: an epoch of one graph with one seed."""

    graph: str
    seed: int


_COLUMNS = (
    "graph",
    "seed",
    *(field.name for field in dataclasses.fields(EpochMetrics)),
)
_WHOLE = ("seed", "epoch")


class RunDirectory:
    """The folder of one run.

    ::

        config.json      the RunConfig, the hash of every graph and of a user's own data set
        metrics.csv      a line per graph, seed and epoch
        weights/         a trained model per graph and seed, with its graph (mpnn_arch.load)
        checkpoints/     unfinished trainings; empty when the run is finished
        results.csv      a line per graph; the same as results.json
        results.json
        curves.png       test error against epochs

    :meth:`create` makes a new one, :meth:`open` opens an existing one. Every file is written
    atomically, and the folder appears together with its configuration.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        graph_hashes: Sequence[str],
        data_hash: str | None = None,
    ) -> None:
        self.path = path
        self.config = config
        self.graph_hashes = tuple(graph_hashes)
        self.data_hash = data_hash

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: RunConfig,
        graph_hashes: Sequence[str],
        data_hash: str | None = None,
    ) -> RunDirectory:
        """A new folder for ``config``.

        Raises:
            InputError: the folder exists already, or cannot be created.
        """
        path = Path(path)
        if path.exists():
            raise InputError(
                f"the run directory {path} exists already; resume it with --resume, or choose "
                "another with --out"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        except OSError as error:
            raise InputError(
                f"the run directory {path} cannot be created ({error.strerror}); choose another "
                "with --out"
            ) from None
        try:
            temporary.chmod(0o755)
            for folder in ("weights", "checkpoints"):
                (temporary / folder).mkdir()
            content: dict[str, Any] = {
                "run": dataclasses.asdict(config),
                "graph_hashes": list(graph_hashes),
            }
            if data_hash is not None:
                content["data_hash"] = data_hash
            write_text(temporary / "config.json", json.dumps(content, indent=2) + "\n")
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(path, config, graph_hashes, data_hash)

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """The run directory at ``path``.

        Raises:
            InputError: there is none, or its configuration cannot be read.
        """
        path = Path(path)
        file = path / "config.json"
        if not file.is_file():
            raise InputError(f"{path} is not a run directory (it has no config.json); check --out")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            run, hashes = content["run"], content["graph_hashes"]
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{file} is not the configuration of a run; start a new one with another --out"
            ) from None
        return cls(path, RunConfig.from_mapping(run), hashes, content.get("data_hash"))

    # -- files ------------------------------------------------------------------------------

    def weights(self, graph: int, seed: int) -> Path:
        """The trained model of the configuration's graph number ``graph``."""
        return self.path / "weights" / f"{self._stem(graph, seed)}.safetensors"

    def checkpoint(self, graph: int, seed: int) -> Path:
        """The checkpoint of that training, while it is unfinished."""
        return self.path / "checkpoints" / f"{self._stem(graph, seed)}.safetensors"

    @property
    def metrics(self) -> Path:
        """The metrics of every epoch."""
        return self.path / "metrics.csv"

    @property
    def plot(self) -> Path:
        """The figure."""
        return self.path / "curves.png"

    def _stem(self, graph: int, seed: int) -> str:
        # Two specifications can have the same slug; the number distinguishes them.
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", self.config.graphs[graph]).strip("-.")[:80]
        return f"{graph}-{slug}-seed{seed}"

    def read_metrics(self) -> list[MetricsRow]:
        """The lines of ``metrics.csv``; none if it does not exist yet.

        Raises:
            InputError: a line is not one that :meth:`write_metrics` wrote.
        """
        if not self.metrics.exists():
            return []
        rows = []
        with self.metrics.open(newline="", encoding="utf-8") as file:
            for number, line in enumerate(csv.DictReader(file), start=2):
                try:
                    values: dict[str, Any] = {name: _read(name, line[name]) for name in _COLUMNS}
                except (KeyError, TypeError, ValueError):
                    raise InputError(
                        f"line {number} of {self.metrics} is not a line of metrics; restore the "
                        "file, or start a new run"
                    ) from None
                rows.append(MetricsRow(**values))
        return rows

    def write_metrics(self, rows: Iterable[MetricsRow]) -> None:
        """Write all metrics so far; numbers are read back to the same bits."""
        write_text(self.metrics, _csv(_COLUMNS, [dataclasses.asdict(row) for row in rows]))

    def write_results(self, results: Sequence[dict[str, Any]]) -> None:
        """Write ``results.json`` and ``results.csv``, a line per graph."""
        write_text(self.path / "results.json", json.dumps(list(results), indent=2) + "\n")
        columns = tuple(results[0])
        write_text(self.path / "results.csv", _csv(columns, results))


def _read(name: str, text: str) -> str | int | float:
    if name == "graph":
        return text
    return int(text) if name in _WHOLE else float(text)


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
