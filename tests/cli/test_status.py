"""What `mpnn-arch status` shows of a study, and `export` says of it."""

import io
import time

import pytest
from rich.console import Console
from rich.live import Live

from mpnn_arch.cli.status import drawn, read_status
from mpnn_arch.io.lock import FolderLock
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.recording import Recorder, RunSettings
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import TrainingConfig


@pytest.fixture
def study(tmp_path):
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("ring:8,2", "ring:8,4"),
        seeds=(0, 1),
        training=TrainingConfig(epochs=2),
        width_multiplier=0.125,
    )
    return Study.create(tmp_path / "study", config)


def test_an_export_says_what_it_leaves_out(study, run, tmp_path):
    with LedgerWriter(study.ledger().path) as ledger, ledger.transaction():
        for row in ledger.lease("one"):
            ledger.fail(row["id"], row["lease"], "it diverged", final=True)
    _, out, _ = run("export", study.path, "--to", tmp_path / "r.csv")
    assert "left out: 4 trials (1 failed, 3 not done yet)" in out
    _, out, _ = run("export", study.path, "--to", tmp_path / "r.csv", "--all-epochs")
    assert "left out" not in out


def test_members_of_a_population_are_not_counted_as_workers(study):
    metrics = {"learning_rate": 0.1, "train_loss": 1, "train_error": 5, "test_loss": 1}
    with FolderLock(study.path / "lock", "it"), LedgerWriter(study.ledger().path) as ledger:
        with ledger.transaction():
            ledger.put_together([1, 2], "ab")
            for row in ledger.lease("one"):
                ledger.record_epoch(
                    row["id"],
                    row["lease"],
                    {**metrics, "epoch": 1, "test_error": 10, "seconds": 2},
                    wall=2,  # of the four that an epoch of both takes
                )
        found = read_status(study.path)
    assert found["running"] == 2
    assert found["epochs_per_second"] == 0.5
    assert found["seconds_left"] == 12


def test_the_time_left_is_that_of_the_run_with_what_lies_between_epochs(study, monkeypatch):
    clock = iter((100.0, 104.0, 108.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    about = {"machine": {}, "threads": 1, "choices": {}, "widths": [8], "parameters": 1}
    metrics = {"learning_rate": 0.1, "train_loss": 1, "train_error": 5, "test_loss": 1}
    with FolderLock(study.path / "lock", "it"), LedgerWriter(study.ledger().path) as ledger:
        recorder = Recorder(study.path, ledger, RunSettings(workers=1, threads=1))
        with ledger.transaction():
            (row,) = ledger.lease("one")
            sender = {"id": row["id"], "lease": row["lease"]}
            recorder.record(row, {"is": "started", **sender, **about, "multiply_adds": 1})
            for epoch in (1, 2):  # of a millisecond each
                found = {**metrics, "epoch": epoch, "test_error": 10, "seconds": 0.001}
                recorder.record(row, {"is": "epoch", **sender, "metrics": found, "wall": 0.001})
        found = read_status(study.path)
    assert found["epochs_per_second"] == 0.25
    assert found["seconds_left"] == 6 / 0.25


@pytest.mark.parametrize("width", [1, 20, 60, 200])
def test_nothing_is_cut_off_while_it_is_watched_in_a_narrow_terminal(study, width):
    with LedgerWriter(study.ledger().path) as ledger, ledger.transaction():
        for worker, reason in (("one", "it-diverged"), ("two", "")):
            for row in ledger.lease(worker):
                if reason:
                    ledger.fail(row["id"], row["lease"], reason, final=True)
    with FolderLock(study.path / "lock", "it"):
        found = read_status(study.path)
    file = io.StringIO()
    console = Console(file=file, width=width, height=200, force_terminal=True, color_system=None)
    with Live(drawn(found, console), console=console, auto_refresh=False):
        pass
    text = "".join(file.getvalue().split())
    for word in ("trials", "queued", "epochs", "0/6", "it-diverged", "attempt"):
        assert word in text
    assert "ring:8,4" in text
    assert text.index("it-diverged") < text.index("attempt")
