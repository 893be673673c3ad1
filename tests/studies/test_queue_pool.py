"""What pools of remote workers share, among threads in place of workers."""

import dataclasses
import threading
from types import SimpleNamespace

import pytest

from mpnn_arch import InputError
from mpnn_arch.cli.runner_options import make_runner
from mpnn_arch.studies.folders import Away, files_of, write_files
from mpnn_arch.studies.interrupts import Interrupts
from mpnn_arch.studies.jobs import Job
from mpnn_arch.studies.queue_pool import QueuePool, lost
from mpnn_arch.studies.recording import Recorder, RunSettings
from mpnn_arch.studies.runner import Driver
from mpnn_arch.studies.runners import Runner
from mpnn_arch.studies.submitit_pool import SubmititPool
from mpnn_arch.studies.tasks import Task
from mpnn_arch.studies.writer import LedgerWriter

from .conftest import ABOUT, made_up_metrics, made_up_trials


class Threads(QueuePool):
    """Every job is a thread; every third worker is lost in the middle of a job."""

    def __init__(self, workers):
        super().__init__("threads")
        self.size = workers

    def start(self):
        return self._new_name()

    def submit(self, worker, job):
        threading.Thread(target=self.train, args=(worker, job)).start()

    def train(self, worker, job):
        (task,) = job.tasks
        about = {"id": task.id, "lease": task.lease}
        self.put(worker, {**about, "is": "started", **ABOUT})
        for epoch in range(task.epochs_known + 1, 4):
            if int(worker.rpartition("/")[2]) % 3 == 0 and epoch == 2:
                self.put(worker, lost("its node died"))
                # What a worker sends that was given up is dropped.
                self.put(worker, {**about, "is": "done"})
                return
            metrics = made_up_metrics(epoch, error=task.trial["seed"] + epoch / 100)
            event = {"is": "epoch", "metrics": metrics, "wall": 0.5, "choices": None}
            self.put(worker, {**about, **event})
        self.put(worker, {**about, "is": "done"})

    def stop(self):
        pass

    def close(self):
        pass


def test_lost_workers_are_replaced_and_their_trials_go_on(tmp_path):
    listed, graphs = made_up_trials(30)
    for folder in ("checkpoints", "weights"):
        (tmp_path / folder).mkdir()
    events = []
    with LedgerWriter.create(tmp_path / "ledger.sqlite") as ledger:
        with ledger.transaction():
            ledger.add_trials(listed, graphs)
        recorder = Recorder(tmp_path, ledger, RunSettings(workers=4, threads=1))
        Driver(recorder, watch=events.append, pool=Threads(4)).run(Interrupts())
        rows = [dict(row) for row in ledger.trials()]
        assert ledger.counts().done == 30
        assert not ledger.late_epochs()
    assert [row["test_error"] for row in rows] == [seed + 0.03 for seed in range(30)]
    failed = [event for event in events if event["is"] == "failed"]
    assert failed
    assert {event["reason"] for event in failed} == {"its node died"}


def a_job(folder):
    task = Task(
        id=1, lease=1, trial={}, hash="abc", num_nodes=2, adjacency="", epochs_known=0, until=1,
        choices=None, threads=1, folder=str(folder), weights=None, device="cpu", data_root=None,
    )  # fmt: skip
    return Job(tasks=(task, dataclasses.replace(task, id=2, hash="def")))


def test_files_travel_to_a_worker_without_the_disk_and_back(tmp_path):
    study, away = tmp_path / "study", tmp_path / "away"
    for folder in (study / "checkpoints", study / "weights", away):
        folder.mkdir(parents=True)
    for name in ("abc.safetensors", "abc.previous.safetensors", "abc.epochs", "xyz.epochs"):
        (study / "checkpoints" / name).write_text(name)
    files = files_of(study, a_job(study))
    assert sorted(files) == [
        "checkpoints/abc.epochs",
        "checkpoints/abc.previous.safetensors",
        "checkpoints/abc.safetensors",
    ]
    there = Away(away, files)
    assert {task.folder for task in there.move(a_job(study)).tasks} == {str(away)}
    assert there.changed() == {}
    with (away / "checkpoints" / "abc.epochs").open("a") as file:
        file.write("more")
    (away / "weights" / "1.safetensors").write_text("weights")
    written = there.changed()
    assert sorted(written) == ["checkpoints/abc.epochs", "weights/1.safetensors"]
    assert there.changed() == {}
    write_files(study, written)
    assert (study / "checkpoints" / "abc.epochs").read_text() == "abc.epochsmore"
    assert (study / "weights" / "1.safetensors").read_text() == "weights"


@pytest.mark.parametrize("name", ["../x", "checkpoints/../../x", "study.json", "weights/.x", "/x"])
def test_a_worker_writes_nowhere_else(tmp_path, name):
    with pytest.raises(ValueError, match="gave back a file"):
        write_files(tmp_path, {name: b""})


@pytest.mark.parametrize("damage", ["deleted", "garbled"])
def test_a_submitted_job_that_cannot_be_followed_is_lost_and_cancelled(tmp_path, damage):
    cancelled = []
    job = SimpleNamespace(job_id="7", state="RUNNING", done=lambda: False)
    job.cancel = lambda check: cancelled.append(check)
    executor = SimpleNamespace(submit=lambda function, base: job)
    pool = SubmititPool(executor, tmp_path, workers=1)
    worker = pool.start()
    pool.submit(worker, a_job(tmp_path))
    (written,) = (tmp_path / "submitted").glob("*.events")
    written.unlink() if damage == "deleted" else written.write_bytes(b"\0\n")
    ((name, event),) = pool.take(20)
    assert (name, event["is"]) == (worker, "lost")
    assert event["reason"].startswith("its job 7 cannot be followed: ")
    assert cancelled == [False]
    pool.close()
    assert not (tmp_path / "submitted").exists()


def options(**given):
    plain = {
        "runner": "local",
        "ray_address": None,
        "cluster": "auto",
        "job": (),
        "parallel": "ddp",
    }
    return {**plain, **given}


def test_options_of_a_runner():
    assert make_runner(options()) == Runner()
    found = make_runner(options(runner="submitit", job=("slurm_partition=gpu", "timeout_min=30")))
    assert found.job == {"slurm_partition": "gpu", "timeout_min": "30"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"runner": "dask"}, "local, ray, submitit"),
        ({"ray_address": "auto"}, "--ray-address is for --runner ray"),
        ({"runner": "ray", "job": ("a=1",)}, "--job is for --runner submitit"),
        ({"runner": "ray", "cluster": "slurm"}, "--cluster is for --runner submitit"),
        ({"runner": "submitit", "job": ("a",)}, "--job 'a' gives no value: it has no ="),
        ({"runner": "submitit", "job": ("a=1", "a=2")}, "--job gives a twice, '1' and '2'"),
        ({"runner": "submitit", "job": ("a b=1",)}, "'a b' is no name of a parameter"),
        ({"parallel": "tp"}, "no --parallel .tp.; choose one of ddp, fsdp2"),
    ],
)
def test_wrong_options_of_a_runner(given, words):
    with pytest.raises(InputError, match=words):
        make_runner(options(**given))


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("submitit", "submitit")])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, name, package):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    runner = Runner(name=name)
    settings = runner.settings(workers=1, threads=1, device="cpu", data_root=None, weights="none")
    with (
        pytest.raises(InputError, match=r'pip install "mpnn-arch\[cluster\]"'),
        runner.open(tmp_path, settings),
    ):
        raise AssertionError("it opened")
