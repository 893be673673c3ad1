import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpnn_arch.graphs import parse_one
from mpnn_arch.io.tensor_file import read_tensors
from mpnn_arch.studies.ledger import METRICS, Ledger
from mpnn_arch.studies.trial import Trial
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import TrainingConfig


class Drivers:
    """Runs `mpnn-arch` in processes of their own, one after another, without importing anew."""

    def __init__(self, folder):
        self.output = folder / "output"
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # Whoever runs the tests in the background of a shell has interrupts ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def start(self, *arguments, **environment):
        asked = {
            "arguments": [str(argument) for argument in arguments],
            "environment": {name: str(value) for name, value in environment.items()},
            "output": str(self.output),
        }
        print(json.dumps(asked), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())

    def wait(self):
        return json.loads(self._server.stdout.readline()), self.output.read_text()

    def run(self, *arguments, **environment):
        """Exit code (negative: a signal) and output of `mpnn-arch arguments`."""
        self.start(*arguments, **environment)
        return self.wait()

    def close(self):
        self._server.stdin.close()
        self._server.wait(120)
        self._server.stdout.close()


@pytest.fixture(scope="session")
def drivers(tmp_path_factory):
    made = Drivers(tmp_path_factory.mktemp("drivers"))
    yield made
    made.close()


LASTING = (
    "hash", "state", "epochs_done", "test_error", "choices", "widths", "parameters",
    "multiply_adds",
)  # fmt: skip


def rows_of(folder):
    """All that a study found, without what time and chance add to it."""
    with Ledger(folder / "ledger.sqlite") as ledger:
        trials = [tuple(row[name] for name in LASTING) for row in ledger.trials()]
        columns = ", ".join(METRICS)
        epochs = [
            tuple(row)
            for row in ledger.query(f"SELECT trial, epoch, {columns} FROM epoch ORDER BY 1, 2")
        ]
        late = ledger.late_epochs()
    return trials, epochs, late


def weights_of(folder):
    """Every tensor and all metadata of every file; their order in the file is left to chance."""
    found = {}
    for path in (folder / "weights").iterdir():
        tensors, about = read_tensors(path, kind="mpnn_arch model 1")
        found[path.name] = about, {name: t.numpy().tobytes() for name, t in tensors.items()}
    return found


def made_up_trials(count, epochs=3):
    """Trials that nobody will train, on the complete graph, and that graph by name."""
    graph = parse_one("complete:8")
    trials = [
        Trial(
            model="mlp",
            graph="complete:8",
            graph_hash=graph.content_hash,
            dataset="digits",
            data_hash="0" * 64,
            recipe=TrainingConfig(epochs=epochs),
            seed=seed,
        )
        for seed in range(count)
    ]
    return trials, {"complete:8": graph}


def made_up_metrics(epoch, error=10.0):
    return {
        "epoch": epoch,
        "learning_rate": 0.1 / epoch,
        "train_loss": 1.0 / epoch,
        "train_error": 5.0,
        "test_loss": 1.5 / epoch,
        "test_error": error,
        "seconds": 0.25,
    }


ABOUT = {
    "machine": {"host": "nowhere"},
    "threads": 1,
    "choices": {},
    "widths": [64],
    "parameters": 1000,
    "multiply_adds": 900,
}


@pytest.fixture
def new_ledger(tmp_path):
    """A ledger of two queued trials of three epochs, open for writing."""
    trials, graphs = made_up_trials(2)
    with LedgerWriter.create(tmp_path / "ledger.sqlite") as ledger:
        with ledger.transaction():
            assert ledger.add_trials(trials, graphs) == 2
        yield ledger
