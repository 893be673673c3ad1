"""`mpnn-arch sweep` in the processes of a group: rank 0 drives the study, all train each trial."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mpnn_arch
from mpnn_arch import InputError
from mpnn_arch.studies import Study
from mpnn_arch.studies.ledger import Ledger

from .conftest import rows_of

_spec = importlib.util.spec_from_file_location("launch", Path(__file__).parents[1] / "launch.py")
launch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(launch)

EPOCHS = 30
SMALL = (
    "-m", "mpnn_arch", "sweep", "--dataset", "digits", "--graphs", "ring:8,2", "--graphs",
    "complete:8", "--seeds", "1", "--epochs", EPOCHS, "--train-images", "101", "--batch-size", "50",
    "--test-images", "51", "--width-multiplier", "0.125", "--backend", "gather", "--weights", "all",
    "--device", "cpu", "--threads", "1", "--no-report",
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group") / "study"
    codes, outputs = launch.run(2, *SMALL, "--out", folder)
    assert codes == [0, 0], outputs
    assert f"study: {folder}" in outputs[0]
    assert not [line for line in outputs[1].splitlines() if "mpnn-arch" in line]
    return folder


def epochs_done(folder):
    if not (folder / "ledger.sqlite").exists():
        return 0
    with Ledger(folder / "ledger.sqlite") as ledger:
        return ledger.counts().epochs_done


def interrupted(folder, at, strike):
    """Start the study, do something to its processes after so many epochs, wait for their ends."""
    processes = launch.launch(2, *SMALL, "--out", folder)
    try:
        until = time.monotonic() + 300
        while epochs_done(folder) < at and time.monotonic() < until:
            time.sleep(0.02)
        strike(processes)
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def test_a_group_trains_a_study(undisturbed):
    trials, epochs, late = rows_of(undisturbed)
    assert [row[1] for row in trials] == ["done", "done"]
    assert len(epochs) == 2 * EPOCHS
    assert not late
    with Ledger(undisturbed / "ledger.sqlite") as ledger:
        assert all('"processes":"2 processes (ddp)"' in row["machine"] for row in ledger.trials())
    for path in (undisturbed / "weights").iterdir():
        assert not mpnn_arch.load(path).training or True
    assert len(list((undisturbed / "weights").iterdir())) == 2


@pytest.mark.timeout(1500)  # five times two processes that import torch
def test_faults_in_a_group_change_nothing(undisturbed, tmp_path):
    folder = tmp_path / "study"

    codes, outputs = interrupted(folder, 2, lambda group: group[1].kill())
    assert codes == [2, -signal.SIGKILL], outputs
    assert "a process of torchrun's group failed" in outputs[0]
    assert "Traceback" not in outputs[0]

    codes, outputs = interrupted(folder, epochs_done(folder) + 2, lambda group: group[0].kill())
    assert codes == [-signal.SIGKILL, 1], outputs
    assert "process 1 lost the others" in outputs[1]
    assert "Traceback" not in outputs[1]

    def interrupt(group):
        for process in group:
            process.send_signal(signal.SIGINT)

    codes, outputs = interrupted(folder, epochs_done(folder) + 2, interrupt)
    assert codes[0] == 130, outputs
    assert codes[1] in (0, 130), outputs
    assert "to continue: mpnn-arch sweep" in outputs[0]
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert ledger.counts().running == 0

    with pytest.raises(InputError, match=r"was begun by 2 processes \(ddp\).*1 process"):
        Study.open(folder).run(workers=1, threads=1, device="cpu")

    codes, outputs = launch.run(2, *SMALL, "--out", folder)
    assert codes == [0, 0], outputs
    assert rows_of(folder) == rows_of(undisturbed)
    assert not list((folder / "checkpoints").iterdir())


THREADS_LEFT = """
import pathlib
from mpnn_arch.cli import main
try:
    main()
finally:
    names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    print("left:", [name for name in names if "gloo" in name])
"""


def test_sharded_weights_are_saved_whole_and_no_thread_outlives_the_group(tmp_path):
    # A thread that released a tensor while the interpreter ended aborted the process.
    own = ("--out", tmp_path / "s", "--parallel", "fsdp2")
    codes, outputs = launch.run(2, "-c", THREADS_LEFT, *SMALL[2:], *own)
    assert codes == [0, 0], outputs
    assert all("left: []" in output for output in outputs), outputs
    paths = sorted((tmp_path / "s" / "weights").iterdir())
    assert len(paths) == 2
    for path in paths:
        assert all(type(p).__name__ == "Parameter" for p in mpnn_arch.load(path).parameters())


def test_other_commands_are_for_one_process():
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "mpnn_arch", "models"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "run mpnn-arch models without torchrun" in done.stderr
