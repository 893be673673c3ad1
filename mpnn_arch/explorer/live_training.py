"""Training in a process of its own, which ends when nobody looks any more."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from mpnn_arch.errors import InputError
from mpnn_arch.training.config import RunConfig
from mpnn_arch.training.devices import find_device
from mpnn_arch.training.experiment import start_run, train_run
from mpnn_arch.training.recipes import recipe
from mpnn_arch.training.run_directory import MetricsRow, RunDirectory

# A page that is open asks every second; a browser lets a hidden page ask once a minute.
PATIENCE = 90.0


class LiveTraining:
    """What ``mpnn-arch train`` does on some graphs, to be watched and stopped.

    The process ends by itself when :meth:`look` was not called for ``patience`` seconds: when the
    page was closed, or its server has ended.

    Args:
        graphs: specifications; each is trained at equal cost.
        dataset: of the images.
        seeds: how many trainings of each.
        epochs: passes over the training images.
        model: its name.
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
        patience: float = PATIENCE,
    ) -> None:
        self.graphs, self.epochs, self.seeds = tuple(graphs), epochs, seeds
        found = recipe(model, dataset)
        config = RunConfig(
            model=model,
            dataset=dataset,
            graphs=self.graphs,
            seeds=tuple(range(seeds)),
            training=dataclasses.replace(found.training, epochs=epochs),
            init=found.init,
        )
        self._folder = Path(tempfile.mkdtemp(prefix="mpnn-arch-"))
        self._seen = self._folder / "seen"
        self._seen.touch()
        self._log = self._folder / "log"
        command = [sys.executable, "-m", __name__, str(self._folder), str(patience)]
        command.append(json.dumps(dataclasses.asdict(config)))
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def look(self) -> list[MetricsRow]:
        """The epochs that are done; also says that somebody still looks."""
        self._seen.touch()
        try:
            return RunDirectory.open(self._folder / "run").read_metrics()
        except InputError:  # not begun yet
            return []

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    @property
    def failure(self) -> str | None:
        """The last line that a process wrote which ended by an error of its own."""
        if self.process.poll() in (None, 0, -signal.SIGINT, -signal.SIGTERM):
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


def _end_when_unseen(seen: Path, patience: float) -> None:
    while seen.exists() and time.time() - seen.stat().st_mtime < patience:
        time.sleep(min(1.0, patience / 4))
    os.kill(os.getpid(), signal.SIGTERM)


def _main(folder: Path, patience: float, config: RunConfig) -> None:
    watch = threading.Thread(target=_end_when_unseen, args=(folder / "seen", patience), daemon=True)
    watch.start()
    try:
        train_run(start_run(folder / "run", config, data_root=None), device=find_device("auto"))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), float(sys.argv[2]), RunConfig.from_mapping(json.loads(sys.argv[3])))
