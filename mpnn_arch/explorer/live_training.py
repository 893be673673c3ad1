"""Training in a process of its own, which ends when the page no longer asks for it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mpnn_arch.errors import InputError
from mpnn_arch.explorer.choice import kept_file
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.graph_names import expand
from mpnn_arch.studies.metrics import MetricsRow, read_metrics
from mpnn_arch.studies.study import Study
from mpnn_arch.training.recipes import recipe

# A page that is open asks every second; a browser lets a hidden page ask once a minute.
PATIENCE = 90.0


def trained_pair(name: str, graph: RelationalGraph, folder: Path | None) -> list[str]:
    """The graph on screen, by a specification, and the complete one, unless it is that itself.

    Args:
        name: the specification of the graph that was chosen.
        graph: the one on screen.
        folder: where a file of it is kept, if its edges are others than those of ``name``.

    Raises:
        InputError: a node without its self-loop; files and specifications have all.
    """
    alone = np.flatnonzero(~graph.adjacency.diagonal())
    if alone.size:
        raise InputError(
            f"a network is trained on a graph with all its self-loops: node {alone[0]} has none, "
            "add it again"
        )
    if folder is not None:
        text = io.BytesIO()
        np.savetxt(text, graph.adjacency.astype(int), fmt="%d", delimiter=",")
        name = kept_file(folder, "edited.csv", text.getvalue())
    return list(dict.fromkeys([name, f"complete:{graph.num_nodes}"]))


class LiveTraining:
    """What ``mpnn-arch train`` does on some graphs, to be watched and stopped.

    The process ends by itself when this object is gone, with whose end its files go too, and when
    :meth:`look` was not called for ``patience`` seconds: the page was closed, or its server killed.

    Args:
        graphs: specifications; each is trained at equal cost.
        dataset: of the images.
        seeds: how many trainings of each.
        epochs: passes over the training images.
        model: its name.
        message, aggr: of its rounds; None is the model's own.
        patience: in seconds.

    Raises:
        InputError: a graph that is given twice, or a number out of its range.
    """

    def __init__(
        self,
        graphs: Sequence[str],
        *,
        dataset: str = "digits",
        seeds: int = 3,
        epochs: int = 15,
        model: str = "mlp",
        message: str | None = None,
        aggr: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.graphs, self.epochs, self.seeds = _names(graphs), epochs, seeds
        self.swapped = {"message": message, "AGG": aggr}
        found = recipe(model, dataset)
        config = StudyConfig(
            model=model,
            dataset=dataset,
            graphs=tuple(graphs),
            seeds=tuple(range(seeds)),
            messages=(message,),
            aggrs=(aggr or "sum",),
            training=dataclasses.replace(found.training, epochs=epochs),
            init=found.init,
        )
        self._folder = Path(tempfile.mkdtemp(prefix="mpnn-arch-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._seen = self._folder / "seen"
        self._seen.touch()
        self._log = self._folder / "log"
        command = [sys.executable, "-m", __name__, str(self._folder), str(patience)]
        command.append(json.dumps(config.to_dict()))
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def look(self) -> list[MetricsRow]:
        """The epochs that are done; also keeps the training going, see ``patience``."""
        self._seen.touch()
        try:
            with Study.open(self._folder / "run").ledger() as ledger:
                return list(read_metrics(ledger))
        except InputError:  # not begun yet
            return []

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    @property
    def failure(self) -> str | None:
        """The last line that a process wrote which ended by an error of its own."""
        if self.process.poll() in (None, 0, 130, -signal.SIGINT, -signal.SIGTERM):
            return None
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return said[-1] if said else f"the training ended with code {self.process.returncode}"

    def stop(self) -> None:
        """End the process, if it has not ended; what it measured so far stays."""
        if self.is_running:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def discard(self) -> None:
        """Stop, and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _names(graphs: Sequence[str]) -> tuple[str, ...]:
    """The graphs as the study calls them; one that cannot be made is said when it is trained."""
    try:
        return tuple(expand(graphs))
    except InputError:
        return tuple(graphs)


def _end_when_unseen(seen: Path, patience: float) -> None:
    """Counts from the change of the file's time: the machine's clock may be set meanwhile."""
    before, since = None, time.monotonic()
    with suppress(OSError):  # its folder is gone
        while time.monotonic() - since < patience:
            touched = seen.stat().st_mtime_ns
            if touched != before:
                before, since = touched, time.monotonic()
            time.sleep(min(1.0, patience / 4))
    os.kill(os.getpid(), signal.SIGTERM)


def _main(folder: Path, patience: float, config: StudyConfig) -> None:
    watch = threading.Thread(target=_end_when_unseen, args=(folder / "seen", patience), daemon=True)
    watch.start()
    try:
        study = Study.create(folder / "run", config, command="train")
        counts = study.run(workers=0, watch=_log_failure)
    except InputError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # stopped, or seen no more
        os._exit(130)  # unloading torch takes seconds on a busy machine
    if counts.failed:
        sys.exit(1)


def _log_failure(event: dict[str, Any]) -> None:
    """Write into the log why a training failed."""
    if event["is"] == "failed":
        print(event["reason"], file=sys.stderr, flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), float(sys.argv[2]), StudyConfig.from_dict(json.loads(sys.argv[3])))
