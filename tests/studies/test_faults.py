"""A small real study is killed at every point where a stop could hurt, and ends the same."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mpnn_arch.studies.crash import CRASH_POINTS
from mpnn_arch.studies.ledger import Ledger

from .conftest import rows_of, weights_of

GRAPHS = ("ws_flex:8,4,0.2,0", "ring:8,2", "complete:8")
SMALL = (
    "sweep", "--dataset", "digits", *(f"--graphs={graph}" for graph in GRAPHS), "--epochs", 3,
    "--train-images", 100, "--test-images", 50, "--width-multiplier", 0.125, "--backend", "gather",
    "--weights", "all", "--workers", 2, "--threads", 1, "--device", "cpu", "--no-report",
)  # fmt: skip

GO_ON = ("--workers", 2, "--device", "cpu", "--no-report")


@pytest.fixture(scope="module")
def undisturbed(drivers, tmp_path_factory):
    """The study without any fault: folder, rows, bytes of every file of weights."""
    folder = tmp_path_factory.mktemp("faults") / "study"
    code, told = drivers.run(*SMALL, "--seeds", 2, "--out", folder)
    assert code == 0, told
    return folder, rows_of(folder), weights_of(folder)


def is_whole(folder, undisturbed):
    _, rows, weights = undisturbed
    assert rows_of(folder) == rows
    assert weights_of(folder).keys() == weights.keys()
    assert weights_of(folder) == weights
    assert not list((folder / "checkpoints").iterdir())
    with Ledger(folder / "ledger.sqlite") as ledger:
        (row,) = ledger.query("PRAGMA integrity_check")
        assert row[0] == "ok"
        assert not list(ledger.query("PRAGMA foreign_key_check"))


def test_the_undisturbed_study_is_done(undisturbed):
    _, (trials, epochs, late), weights = undisturbed
    assert [row[1] for row in trials] == ["done"] * 6
    assert len(epochs) == 6 * 3
    assert not late
    assert len(weights) == 6


# So often a process passes the point before it dies there, where the middle says more.
LATER = {
    "ledger.transaction": 6,
    "ledger.committed": 7,
    "lease.given": 2,
    "epoch.trained": 2,
    "journal.half": 2,
    "journal.written": 3,
    "checkpoint.written": 2,
    "epoch.sent": 2,
}
IN_WORKER = ("worker.", "epoch.", "journal.", "checkpoint.", "weights.", "result.")
ELSEWHERE = ("study.described", "race.decided")  # an extension, a race
POINTS = [f"{point}:{LATER.get(point, 1)}" for point in CRASH_POINTS if point not in ELSEWHERE]


@pytest.mark.parametrize("point", [*POINTS, "checkpoint.written:2=torn", "journal.written:2=torn"])
def test_a_study_killed_at_a_point_ends_the_same(drivers, undisturbed, tmp_path, point):
    folder, once = tmp_path / "study", tmp_path / "it_happened"
    command = (*SMALL, "--seeds", 2, "--out", folder)
    code, told = drivers.run(*command, MPNN_ARCH_CRASH=point, MPNN_ARCH_CRASH_ONCE=once)
    assert once.exists(), told
    if point.startswith(IN_WORKER):
        assert code == 0, told  # the driver gave the trial to another worker
        assert "was killed (signal 9)" in told
    else:
        assert code == -signal.SIGKILL, told
        code, told = drivers.run(*command)
        assert code == 0, told
    is_whole(folder, undisturbed)


def test_an_extension_that_was_cut_off_is_completed(drivers, undisturbed, tmp_path):
    folder, once = tmp_path / "study", tmp_path / "it_happened"
    assert drivers.run(*SMALL, "--seeds", 1, "--out", folder)[0] == 0
    wider = (*SMALL, "--seeds", 2, "--out", folder)
    code, told = drivers.run(*wider)
    assert code == 2
    assert "1 more seed (1)" in told
    assert "--extend" in told
    code, _ = drivers.run(
        *wider, "--extend", MPNN_ARCH_CRASH="study.described", MPNN_ARCH_CRASH_ONCE=once
    )
    assert code == -signal.SIGKILL
    code, told = drivers.run(
        "sweep", "--out", folder, "--workers", 2, "--device", "cpu", "--no-report"
    )
    assert code == 0, told
    is_whole(folder, undisturbed)


def test_a_full_disk_stops_the_study_and_loses_nothing(drivers, undisturbed, tmp_path):
    folder, once = tmp_path / "study", tmp_path / "it_happened"
    command = (*SMALL, "--seeds", 2, "--out", folder)
    code, told = drivers.run(
        *command, MPNN_ARCH_CRASH="checkpoint.written:2=full", MPNN_ARCH_CRASH_ONCE=once
    )
    assert code == 2, told
    assert "No space left on device" in told
    assert "give the same command again" in told
    assert "Traceback" not in told
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert ledger.counts().failed == ledger.counts().running == 0
    assert drivers.run(*command)[0] == 0
    is_whole(folder, undisturbed)


def test_ctrl_c_ends_soon_with_all_recorded(drivers, undisturbed, tmp_path):
    folder = tmp_path / "study"
    command = (*SMALL, "--seeds", 2, "--out", folder)
    driver = drivers.start(*command, MPNN_ARCH_CRASH="never")
    wait_for_an_epoch(folder)
    os.kill(driver, signal.SIGINT)
    start = time.monotonic()
    code, told = drivers.wait()
    assert code == 130, told
    assert time.monotonic() - start < 5
    assert f"to continue: mpnn-arch sweep --out {folder}" in told
    assert "Traceback" not in told
    with Ledger(folder / "ledger.sqlite") as ledger:
        counts = ledger.counts()
        assert counts.running == counts.failed == 0
        assert counts.epochs_done > 0
    assert drivers.run(*command)[0] == 0
    is_whole(folder, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_job_that_a_batch_system_ends_counts_no_failure(drivers, undisturbed, tmp_path, number):
    """Slurm sends SIGTERM to every process of a job, in any order; a closed terminal SIGHUP."""
    folder = tmp_path / "study"
    command = (*SMALL, "--seeds", 2, "--out", folder)
    driver = drivers.start(*command)
    wait_for_an_epoch(folder)
    nursery = children(driver)
    for process in (*children(*nursery), *nursery, driver):
        with suppress(ProcessLookupError):
            os.kill(process, number)
    code, told = drivers.wait()
    assert code in (0, 130), told  # 0: it had ended
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert sum(row["failures"] for row in ledger.trials()) == 0
        assert ledger.counts().running == 0
    assert drivers.run(*command)[0] == 0
    is_whole(folder, undisturbed)


def test_the_second_driver_is_told_who_holds_the_study(drivers, undisturbed, tmp_path, capsys):
    from mpnn_arch import cli

    folder = tmp_path / "study"
    driver = drivers.start(*SMALL, "--seeds", 2, "--out", folder)
    wait_for_an_epoch(folder)
    os.kill(driver, signal.SIGSTOP)
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main(["sweep", "--out", str(folder)])
        assert stop.value.code == 2
        assert f"is being written by process {driver} on" in capsys.readouterr().err
        cli_status = read_status(folder)
        assert f"process {driver} on" in cli_status["driver"]
    finally:
        os.kill(driver, signal.SIGKILL)
    assert drivers.wait()[0] == -signal.SIGKILL
    killed = read_status(folder)
    assert killed["driver"] is None
    assert (killed["running"], killed["running_trials"]) == (0, [])
    assert killed["queued"] == killed["trials"] - killed["done"]
    code, told = drivers.run(
        "sweep", "--out", folder, "--workers", 2, "--device", "cpu", "--no-report"
    )
    assert code == 0
    assert f"goes on after process {driver} on" in told
    is_whole(folder, undisturbed)


MOMENTS = int(os.environ.get("MPNN_ARCH_FAULTS", "3"))


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_study_killed_at_a_random_moment_ends_the_same(drivers, undisturbed, tmp_path, moment):
    folder = tmp_path / "study"
    command = (*SMALL, "--seeds", 2, "--out", folder)
    chance = random.Random(moment)
    for _ in range(2):
        driver = drivers.start(*command)
        time.sleep(chance.uniform(0.05, 0.9))
        workers = children(*children(driver))
        victims = [driver, *workers]
        with suppress(ProcessLookupError):  # it had ended
            os.kill(chance.choice(victims), signal.SIGKILL)
        code, told = drivers.wait()
        assert code in (0, -signal.SIGKILL), told
    code, told = drivers.run(*command)
    assert code == 0, told
    is_whole(folder, undisturbed)


def wait_for_an_epoch(folder):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.05)
        if (folder / "ledger.sqlite").exists():
            with Ledger(folder / "ledger.sqlite") as ledger:
                if ledger.counts().epochs_done:
                    return
    raise AssertionError("no epoch in a minute")


def read_status(folder):
    from mpnn_arch.cli.status import read_status

    return read_status(folder)


def children(*parents):
    """Numbers of the processes whose parent is one of these."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent in parents:
            found.append(int(path.parent.name))
    return found
