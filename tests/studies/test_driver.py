"""The driver among made-up workers that train nothing: they die, repeat themselves and are late."""

import random
import socket
import threading
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies.interrupts import Interrupts
from mpnn_arch.studies.jobs import Job
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.local_pool import LocalPool
from mpnn_arch.studies.recording import Recorder, RunSettings
from mpnn_arch.studies.runner import Driver
from mpnn_arch.studies.tasks import Task, decode, encode
from mpnn_arch.studies.writer import MOST_FAILURES, LedgerWriter

from .conftest import ABOUT, made_up_metrics, made_up_trials


class MadeUp:
    """Starts threads in place of processes; each speaks as a worker does.

    `behave(task, send)` plays one task and says whether the worker lives on.
    """

    def __init__(self, behave):
        self.behave = behave
        self.started = 0

    def start(self):
        ours, theirs = socket.socketpair()
        self.started += 1
        channel = Connection(theirs.detach())
        threading.Thread(target=self.work, args=(channel, 2**30 + self.started)).start()
        return Connection(ours.detach())

    def ending(self, process):
        return f"worker {process - 2**30} was killed"

    def work(self, channel, number):
        with channel:
            try:
                channel.send_bytes(encode({"is": "hello", "process": number}))
                while True:
                    message = decode(channel.recv_bytes())
                    if message["do"] == "stop":
                        return
                    (task,) = message["job"]["tasks"]
                    about = {"id": task["id"], "lease": task["lease"]}

                    def send(about=about, **event):
                        channel.send_bytes(encode({**about, **event}))

                    if not self.behave(task, send):
                        return
            except (EOFError, OSError):
                return


def play(task, send):
    send(**{"is": "started"}, **ABOUT)
    for epoch in range(task["epochs_known"] + 1, task["until"] + 1):
        metrics = made_up_metrics(epoch, error=task["trial"]["seed"] + epoch / 100)
        send(**{"is": "epoch"}, metrics=metrics, wall=0.5, choices=None)
    send(**{"is": "done"})
    return True


def drive(tmp_path, behave, *, trials=20, workers=4, interrupts=None, timeout=None):
    listed, graphs = made_up_trials(trials)
    events = []
    with LedgerWriter.create(tmp_path / "ledger.sqlite") as ledger:
        with ledger.transaction():
            ledger.add_trials(listed, graphs)
        for folder in ("checkpoints", "weights"):
            (tmp_path / folder).mkdir()
        settings = RunSettings(workers=workers, threads=1)
        pool = LocalPool(MadeUp(behave), workers, timeout)
        recorder = Recorder(tmp_path, ledger, settings)
        driver = Driver(recorder, watch=events.append, pool=pool)
        driver.run(interrupts or Interrupts())
        return ledger.counts(), [dict(row) for row in ledger.trials()], events


def test_all_trials_are_done_and_told_once(tmp_path):
    counts, rows, events = drive(tmp_path, play)
    assert counts.done == 20
    assert [row["test_error"] for row in rows] == [seed + 0.03 for seed in range(20)]
    assert all(row["attempts"] == 1 for row in rows)
    for kind, times in (("done", 20), ("epoch", 60)):
        told = [(e["hash"], e.get("metrics", {}).get("epoch")) for e in events if e["is"] == kind]
        assert len(told) == len(set(told)) == times


def test_hundred_workers_that_die_repeat_themselves_and_are_late(tmp_path):
    """300 trials, a fifth of the tasks end in a death, a tenth of the messages come twice.

    What a dead one had not sent arrives later, through another's channel and under its old lease.
    Clocks differ by days.
    """
    late = deque()

    def behave(task, send):
        chance = random.Random(f"{task['hash']} {task['lease']}")
        dies_at = chance.randrange(4) if chance.random() < 0.2 and task["lease"] < 3 else None

        def sometimes_twice(**event):
            for _ in range(1 + (chance.random() < 0.1)):
                send(**event)

        send(**{"is": "started"}, **ABOUT)
        skew, dead = chance.uniform(-1e6, 1e6), False
        for epoch in range(task["epochs_known"] + 1, 4):
            dead = dead or epoch == dies_at
            metrics = made_up_metrics(epoch, error=task["trial"]["seed"] + epoch / 100)
            metrics["seconds"] += skew
            event = {"is": "epoch", "metrics": metrics, "wall": 0.5, "choices": None}
            if dead:
                late.append({**event, "id": task["id"], "lease": task["lease"]})
                continue
            sometimes_twice(**event)
            with suppress(IndexError):
                send(**late.popleft())
        if dead:
            return False
        sometimes_twice(**{"is": "done"})
        return True

    counts, rows, events = drive(tmp_path, behave, trials=300, workers=100)
    assert counts.done == 300
    assert counts.epochs_done == 900
    assert [row["test_error"] for row in rows] == [seed + 0.03 for seed in range(300)]
    killed = [e for e in events if e["is"] == "failed"]
    assert len(killed) > 10
    assert sum(row["failures"] for row in rows) == len(killed)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        (row,) = ledger.query("SELECT count(*) AS n FROM epoch")
        assert row["n"] == 900
        set_aside = ledger.late_epochs()
        leases = {row["id"]: row["lease"] for row in ledger.trials()}
    # Those that came before the accepted ones; compared with them, they are equal.
    assert set_aside
    assert all(one["agrees"] is True for one in set_aside)
    assert all(one["lease"] < leases[one["trial"]] for one in set_aside)


def test_a_trial_that_always_kills_its_worker_is_given_up_and_the_rest_goes_on(tmp_path):
    def behave(task, send):
        return task["trial"]["seed"] != 3 and play(task, send)

    counts, rows, _ = drive(tmp_path, behave)
    assert (counts.done, counts.failed) == (19, 1)
    assert rows[3]["state"] == "failed"
    assert rows[3]["attempts"] == MOST_FAILURES
    assert "was killed" in rows[3]["reason"]


def test_a_trial_that_raises_takes_its_worker_along_and_no_other_trial(tmp_path):
    def behave(task, send):
        if task["trial"]["seed"] % 5 == 0:
            send(**{"is": "failed"}, reason="ValueError: no", detail="where", leaves=True)
            return False
        return play(task, send)

    counts, rows, _ = drive(tmp_path, behave)
    assert (counts.done, counts.failed) == (16, 4)
    assert all(row["attempts"] == 1 for row in rows if row["state"] == "done")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        details = {row["detail"] for row in ledger.query("SELECT * FROM attempt WHERE trial = 1")}
    assert details == {"where"}


def test_ctrl_c_queues_what_was_running(tmp_path, monkeypatch):
    from mpnn_arch.studies import local_pool, runner

    monkeypatch.setattr(runner, "GRACE", 0.2)
    killed, over = [], threading.Event()

    def kill(process, number):
        killed.append(process)
        over.set()

    monkeypatch.setattr(local_pool.os, "kill", kill)
    interrupts = Interrupts()

    def behave(task, send):
        send(**{"is": "started"}, **ABOUT)
        send(**{"is": "epoch"}, metrics=made_up_metrics(1), wall=0.5, choices=None)
        interrupts.asked = True
        over.wait(60)  # an epoch that takes longer than the grace
        return False

    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, behave, interrupts=interrupts)
    assert killed
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        counts = ledger.counts()
        assert (counts.running, counts.failed, counts.queued) == (0, 0, 20)
        assert counts.epochs_done > 0
        outcomes = {row["outcome"] for row in ledger.query("SELECT outcome FROM attempt")}
    assert outcomes == {"interrupted"}


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_what_fails_while_the_study_is_stopped_is_no_failure(tmp_path, end):
    """As where a batch system kills a worker, or what loads its images, along with the driver."""
    interrupts = Interrupts()

    def behave(task, send):
        send(**{"is": "started"}, **ABOUT)
        interrupts.asked = True
        if end == "failed":
            send(**{"is": "failed"}, reason="its loader was killed", detail="", leaves=True)
        return False

    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, behave, interrupts=interrupts)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert (ledger.counts().queued, ledger.counts().running) == (20, 0)
        assert [row["failures"] for row in ledger.trials()] == [0] * 20


def test_workers_that_never_begin_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(MadeUp, "work", lambda self, channel, number: channel.close())
    with pytest.raises(InputError, match="end before they begin"):
        drive(tmp_path, play)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.counts().queued == 20


def test_a_trial_that_hangs_is_ended_after_its_timeout_and_the_rest_goes_on(tmp_path, monkeypatch):
    """Silence counts from the last event, so that a training of many epochs is not ended."""
    from mpnn_arch.studies import local_pool

    killed = []
    monkeypatch.setattr(local_pool.os, "kill", lambda process, number: killed.append(process))
    over = threading.Event()

    def behave(task, send):
        if task["trial"]["seed"] != 3:
            if task["trial"]["seed"] == 0:
                for _ in range(5):
                    over.wait(0.3)
                    send(**{"is": "note"}, text="slow")
            return play(task, send)
        send(**{"is": "started"}, **ABOUT)
        send(**{"is": "epoch"}, metrics=made_up_metrics(1), wall=0.5, choices=None)
        over.wait(60)
        return False

    try:
        counts, rows, _ = drive(tmp_path, behave, timeout=1.0)
    finally:
        over.set()
    assert (counts.done, counts.failed) == (19, 1)
    assert rows[3]["reason"] == "no epoch came from it for 1 s, which is its --timeout"
    assert (rows[3]["epochs_done"], rows[3]["attempts"], rows[0]["attempts"]) == (1, 3, 1)
    assert len(killed) == MOST_FAILURES


def test_a_driver_that_was_stopped_itself_takes_no_worker_for_one_that_hangs(monkeypatch):
    from mpnn_arch.studies import local_pool

    now = [0.0]
    monkeypatch.setattr(local_pool, "time", SimpleNamespace(monotonic=lambda: now[0]))
    waits = threading.Event()
    pool = LocalPool(MadeUp(lambda task, send: waits.wait(60)), 1, timeout=100.0)
    name = pool.start()
    while pool._workers[name].process is None:
        pool.take(1.0)
    task = Task(
        id=1, lease=1, trial={}, hash="", num_nodes=8, adjacency="", epochs_known=0, until=1,
        choices=None, threads=1, folder="", weights=None, device="cpu", data_root=None,
    )  # fmt: skip
    pool.submit(name, Job(tasks=(task,)))
    now[0] += 1e4
    assert pool.take(0.0) == []
    waits.set()
    pool.close()
