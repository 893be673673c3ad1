"""A study run without worker processes: what is recorded, and what stops it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.studies import jobs
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.replay import replay
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.tasks import StorageError
from mpnn_arch.training.config import TrainingConfig

from .conftest import ABOUT, made_up_metrics, rows_of

CONFIG = StudyConfig(
    model="mlp",
    dataset="digits",
    graphs=("ring:8,2", "complete:8"),
    seeds=(0, 1),
    training=TrainingConfig(epochs=2),
    train_images=100,
    test_images=50,
    backend="gather",
    width_multiplier=0.125,
)


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "study", CONFIG)


# Without what Windows lacks, file locks aside. The packages imported first ask for it on Linux.
WITHOUT = """
import os, sys
import numpy, psutil, torch
sys.modules["resource"] = None
for name in ("O_CLOEXEC", "fork", "uname"):
    delattr(os, name)
from mpnn_arch import InputError
from mpnn_arch.studies import Study
study = Study.open(sys.argv[1])
assert study.run(workers=0).done == 4
study.extend(type(study.config).from_dict({**study.config.to_dict(), "seeds": (2,)}))
try:
    study.run(workers=2)
except InputError as error:
    print(error)
"""


def test_a_study_is_trained_where_there_are_no_forks(study):
    command = [sys.executable, "-c", WITHOUT, str(study.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("worker processes are forked"), done.stderr
    assert "--workers 0" in done.stdout


def pretend(monkeypatch, do=lambda task, epoch: None):
    """Train nothing; ``do`` is called before every epoch that is given."""

    def train_task(task, emit, is_stopping=lambda: False):
        torch.set_num_threads(task.threads)
        emit({"is": "started", **ABOUT})
        for epoch in range(task.epochs_known + 1, 3):
            do(task, epoch)
            emit({"is": "epoch", "metrics": made_up_metrics(epoch), "wall": 1.0})
        emit({"is": "done"})

    monkeypatch.setattr(jobs, "train_task", train_task)


def states(study):
    with study.ledger() as ledger:
        return [(row["state"], row["epochs_done"], row["failures"]) for row in ledger.trials()]


def test_all_trials_are_done_in_order_and_told_after_they_are_recorded(study, monkeypatch):
    pretend(monkeypatch)
    told = []

    def watch(event):
        told.append((event["id"], event["is"], study.counts().epochs_done))

    threads = torch.get_num_threads()
    assert study.run(workers=0, threads=threads + 1, watch=watch).done == 4
    assert torch.get_num_threads() == threads
    assert [t[:2] for t in told] == [
        (trial, kind) for trial in (1, 2, 3, 4) for kind in ("epoch", "epoch", "done")
    ]
    assert [t[2] for t in told] == [1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8]
    told.clear()
    assert study.run(workers=0, watch=watch).done == 4
    assert not told


def test_a_trial_that_raises_is_given_up_after_three_attempts_and_the_rest_goes_on(
    study, monkeypatch
):
    def fail(task, epoch):
        if task.id == 2:
            raise RuntimeError("broken")

    pretend(monkeypatch, fail)
    counts = study.run(workers=0)
    assert (counts.done, counts.failed) == (3, 1)
    assert states(study)[1] == ("failed", 0, 3)
    with study.ledger() as ledger:
        assert ledger.find_trial("2")["reason"] == "RuntimeError: broken"
    pretend(monkeypatch)
    assert study.run(workers=0, retry_failed=True).done == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_a_data_function_that_hangs_before_the_first_trial(
    study, monkeypatch, workers
):
    """Where it is called in this process: to compare the data, and to time a population."""
    from mpnn_arch.studies import in_process, populations

    went_on = []

    def hang(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # goes on after a handler that only notes the signal
        went_on.append(arguments)

    monkeypatch.setattr(in_process, "data_of", hang)
    monkeypatch.setattr(populations, "_groups", hang)
    with pytest.raises(KeyboardInterrupt):
        study.run(workers=workers)
    assert not went_on
    assert states(study) == [("queued", 0, 0)] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once_and_the_epochs_before_stay(study, monkeypatch, number):
    before = signal.getsignal(number)

    def interrupt(task, epoch):
        if (task.id, epoch) == (2, 2):
            os.kill(os.getpid(), number)

    pretend(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        study.run(workers=0)
    assert signal.getsignal(number) == before
    assert states(study)[:3] == [("done", 2, 0), ("queued", 1, 0), ("queued", 0, 0)]
    pretend(monkeypatch)
    assert study.run(workers=0).done == 4


def test_a_signal_during_a_transaction_waits_for_its_end(study, monkeypatch):
    pretend(monkeypatch)

    def watch(event):
        if (event["id"], event["is"]) == (1, "epoch"):
            os.kill(os.getpid(), signal.SIGINT)
            assert event["metrics"]["epoch"] == 1  # still here

    with pytest.raises(KeyboardInterrupt):
        study.run(workers=0, watch=watch)
    assert states(study)[0] == ("queued", 1, 0)


def test_an_error_of_the_watcher_is_no_failure_of_the_trial(study, monkeypatch):
    pretend(monkeypatch)

    def watch(event):
        raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        study.run(workers=0, watch=watch)
    assert states(study)[0] == ("queued", 1, 0)


def test_a_folder_that_cannot_be_written_stops_the_study(study, monkeypatch):
    from mpnn_arch.studies.tasks import StorageError

    def full(task, epoch):
        raise StorageError("no room")

    pretend(monkeypatch, full)
    with pytest.raises(InputError, match="no room, and give the same command again"):
        study.run(workers=0)
    assert {state for state, *_ in states(study)} == {"queued"}


def test_it_gives_the_same_bits_as_worker_processes(study, tmp_path):
    study.run(workers=0, threads=1, device="cpu")
    other = Study.create(tmp_path / "other", CONFIG)
    other.run(workers=2, threads=1, device="cpu")
    columns = ["graph", "train_seed", "epoch", "train_loss", "test_loss"]
    tables = [one.table(all_epochs=True)[columns] for one in (study, other)]
    assert tables[0].equals(tables[1])


def test_images_read_from_a_folder_are_known_by_their_names(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from mpnn_arch.training.image_folder import ImageFolder

    for part in ("train", "val"):
        for name in ("dark", "bright"):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for i in range(4):
                image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    made = ImageFolder(tmp_path / "imagenet", image_size=8, workers=0)
    before = made.listing_hash
    assert made.subset(4, None).listing_hash != before
    assert ImageFolder(tmp_path / "imagenet", image_size=8, workers=0).listing_hash == before
    (tmp_path / "imagenet" / "train" / "dark" / "3.png").rename(
        tmp_path / "imagenet" / "train" / "bright" / "4.png"
    )
    assert ImageFolder(tmp_path / "imagenet", image_size=8, workers=0).listing_hash != before


def test_imagenet_is_a_study_like_any_other(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for part, count in (("train", 4), ("val", 2)):
        for shade, name in ((40, "dark"), (200, "bright")):
            folder = tmp_path / "imagenet" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                image.new("RGB", (32, 32), (shade + i,) * 3).save(folder / f"{i}.png")
    config = StudyConfig(
        model="cnn8",
        dataset="imagenet",
        graphs=("complete:4",),
        seeds=(0,),
        training=TrainingConfig(epochs=1, batch_size=4),
        backend="gather",
        width_multiplier=0.125,
    )
    study = Study.create(tmp_path / "study", config, data_root=tmp_path)
    assert study.run(workers=0, device="cpu", data_root=tmp_path).done == 1


def test_a_folder_that_goes_away_is_named(study, monkeypatch):
    def move(task, epoch):
        study.path.rename(study.path.with_name("moved"))
        raise StorageError("cannot write a checkpoint")

    pretend(monkeypatch, move)
    with pytest.raises(InputError, match=r"study's folder .* was moved, deleted or .*move it back"):
        study.run(workers=0)
    moved = Study.open(study.path.with_name("moved"))
    assert [row[0] for row in states(moved)] == ["queued"] * 4


def test_the_name_of_a_folder_need_not_be_text(tmp_path, monkeypatch):
    pretend(monkeypatch)
    study = Study.create(tmp_path / os.fsdecode(b"st\xff%41?#"), CONFIG)
    assert study.run(workers=0).done == study.counts().done == 4


@pytest.mark.parametrize(("name", "how"), [("ledger.sqlite", "open"), ("study.json", "read_bytes")])
def test_a_study_that_may_not_be_read_is_no_other_folder(study, monkeypatch, name, how):
    real = getattr(Path, how)

    def refuse(path, *rest, **more):
        if path.name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *rest, **more)

    monkeypatch.setattr(Path, how, refuse)  # root may read all
    with pytest.raises(InputError, match=rf"cannot read .*{name} .*: change the permissions"):
        Study.open(study.path).counts()


def test_a_lack_of_memory_is_said(study, monkeypatch):
    def lack(task, epoch):
        raise MemoryError

    pretend(monkeypatch, lack)
    study.run(workers=0)
    with study.ledger() as ledger:
        assert {row["reason"] for row in ledger.trials()} == {
            "MemoryError: there is not enough memory; take fewer workers, or a smaller batch or "
            "model"
        }


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_ledger_that_goes_away_ends_the_run(study, monkeypatch, how):
    ledger = study.path / "ledger.sqlite"

    def lose(task, epoch):
        if task.id == 2:
            ledger.rename(study.path / "elsewhere")
            if how == "replaced":
                shutil.copy(study.path / "elsewhere", ledger)

    pretend(monkeypatch, lose)
    told = []
    with pytest.raises(InputError, match=r"the ledger in it, was moved, deleted or replaced"):
        study.run(workers=0, watch=told.append)
    assert [event["id"] for event in told] == [1, 1, 1]  # no more than was recorded


def test_a_lock_file_that_is_deleted_ends_the_run_so_that_no_two_train(study, monkeypatch):
    def delete(task, epoch):
        (study.path / "lock").unlink(missing_ok=task.id > 2)

    pretend(monkeypatch, delete)
    told = []
    with pytest.raises(InputError, match=r"lock was deleted or replaced, .*same command again"):
        study.run(workers=0, watch=told.append)
    assert {event["id"] for event in told} <= {1}
    monkeypatch.undo()
    pretend(monkeypatch)
    assert study.run(workers=0).done == 4


def test_a_checkpoint_that_may_not_be_read_is_kept_and_no_fault_of_the_trial(study, monkeypatch):
    def stop(event):
        if event["is"] == "epoch":
            raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        study.run(workers=0, watch=stop)
    (checkpoint,) = (study.path / "checkpoints").glob("*.safetensors")
    content, opened = checkpoint.read_bytes(), Path.open

    def refuse(path, *rest, **more):
        if path == checkpoint:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)  # root may read all
        with pytest.raises(InputError, match=r"cannot read .*denied.*: change the perm"):
            study.run(workers=0)
    assert checkpoint.read_bytes() == content
    assert states(study)[0] == ("queued", 1, 0)
    assert study.run(workers=0).done == 4


@pytest.mark.parametrize("name", ["checkpoints", "weights"])
def test_a_file_in_the_place_of_a_folder_is_named(study, name):
    (study.path / name).rmdir()
    (study.path / name).write_text("")
    with pytest.raises(InputError, match=rf"cannot write .*{name}.*there is a file of that name"):
        study.run(workers=0)


def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    return SimpleNamespace(close=lambda: torch.set_default_dtype(before))


@pytest.mark.parametrize(
    "entered",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: closing(float64()),
    ],
)
def test_a_trial_has_the_bits_of_a_worker_whatever_a_script_has_set(study, tmp_path, entered):
    torch.manual_seed(0)
    plain = Study.create(tmp_path / "plain", CONFIG)
    assert plain.run(workers=0, threads=1).done == 4
    with entered():
        assert study.run(workers=0, threads=1).done == 4
        assert not [epoch.differs for epoch in replay(study, "1") if epoch.differs]
        assert torch.is_grad_enabled() == (entered not in (torch.no_grad, torch.inference_mode))
    assert rows_of(study.path) == rows_of(plain.path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_study_is_found_again_where_the_current_folder_changes(tmp_path, monkeypatch, workers):
    """Between its making and its run, as a notebook's %cd does, and while it runs."""
    monkeypatch.chdir(tmp_path)
    study = Study.create("study", CONFIG)
    (tmp_path / "elsewhere").mkdir()
    os.chdir("elsewhere")
    assert study.run(workers=workers, watch=lambda event: os.chdir(tmp_path)).done == 4
    os.chdir("elsewhere")
    assert study.counts().done == 4
    assert str(study.path) == "study"
