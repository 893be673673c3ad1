"""A resumed run trusts nothing: its files, its neighbours, its environment; and it is bit-exact.

``MPNN_ARCH_KILLS=100 pytest tests/attacks/test_resume.py`` kills more often than the default.
"""

import dataclasses
import json
import os
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from mpnn_arch import InputError, cli
from mpnn_arch.io.lock import FolderLock
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.studies.adoption import adopt
from mpnn_arch.studies.metrics import read_metrics
from mpnn_arch.studies.reading import open_ledger
from mpnn_arch.studies.run_directory import RunDirectory
from mpnn_arch.studies.run_ledger import study_config
from mpnn_arch.studies.study import Study, is_run_directory
from mpnn_arch.training import environment as environments
from mpnn_arch.training.checkpoint import delete_checkpoint, generations, previous_checkpoint
from mpnn_arch.training.config import RunConfig, TrainingConfig

from ..old_runs import damage as configuration_of
from ..old_runs import write_run

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

KILLS = int(os.environ.get("MPNN_ARCH_KILLS", "20"))
CPU = torch.device("cpu")
EPOCHS = 3
CONFIG = RunConfig(
    model="mlp",
    dataset="digits",
    graphs=("ring:8", "complete:8"),
    seeds=(0,),
    training=TrainingConfig(epochs=EPOCHS),
    train_images=300,
    test_images=100,
    backend="masked",  # "auto" would time, and can choose otherwise in another process
    width_multiplier=0.1,
)
TRAIN = [
    "train", "--dataset", "digits", "--graph", "ring:8", "--graph", "complete:8", "--seeds", "1",
    "--epochs", str(EPOCHS), "--train-images", "300", "--test-images", "100",
    "--backend", "masked", "--width-multiplier", "0.1",
]  # fmt: skip


# -- killed at random -----------------------------------------------------------------------------


class Killer:
    """The process that runs commands in children and kills them; see ``killer.py``."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, arguments: list[str], **when: Any) -> tuple[int, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"arguments": arguments, "show": not when, **when}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        code, calls = json.loads(self.process.stdout.readline())
        return code, calls

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    made.close()


def lasting(folder: Path) -> dict[str, Any]:
    """What a run found that does not depend on the time it took, and the names of its files."""
    with open_ledger(folder) as ledger:
        epochs = [dataclasses.asdict(row) | {"seconds": 0} for row in read_metrics(ledger)]
    found: dict[str, Any] = {
        "epochs": sorted(epochs, key=lambda row: (row["graph"], row["seed"], row["epoch"])),
        "weights": sorted(path.read_bytes() for path in (folder / "weights").iterdir()),
        "left": sorted(os.listdir(folder / "checkpoints")),
    }
    found["half written"] = [
        str(path) for path in folder.rglob("*") if "mpnn-arch" in path.name or path.name == "lock"
    ]
    return found


def files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm")))
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.mark.slow
def test_killed_runs_end_in_the_same_files(tmp_path: Path, killer: Killer) -> None:
    started = time.monotonic()
    code, calls = killer([*TRAIN, "--out", str(tmp_path / "undisturbed")])
    seconds = time.monotonic() - started
    assert code == 0
    assert calls > 50
    expected, names = lasting(tmp_path / "undisturbed"), files(tmp_path / "undisturbed")
    assert not expected["half written"]
    assert len(expected["epochs"]) == 2 * EPOCHS
    assert len(expected["weights"]) == 2

    chance = random.Random(0)
    kills = number = 0
    while kills < KILLS:
        number += 1
        out = tmp_path / f"run{number}"
        for _ in range(5):
            if kills == KILLS:
                break
            when = (
                {"call": chance.randrange(calls)}
                if chance.random() < 0.6
                else {"seconds": chance.uniform(0, seconds)}
            )
            begin = ["train", "--resume"] if out.exists() else TRAIN
            code, _ = killer([*begin, "--out", str(out)], **when)
            assert code in (0, -9), when
            kills += code == -9
            if code == 0:
                break
        begin = ["train", "--resume"] if out.exists() else TRAIN
        assert killer([*begin, "--out", str(out)])[0] == 0
        assert lasting(out) == expected
        assert files(out) == names
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["undisturbed", *(f"run{n + 1}" for n in range(number))]
    )


# -- damaged files --------------------------------------------------------------------------------


class Stop(Exception):
    pass


def train(folder: Path, *, epochs: int | None = None) -> Study:
    """Go on with the run or the study in ``folder``, or make one, for at most ``epochs``."""
    if is_run_directory(folder):
        study = adopt(folder, device="cpu")
    elif folder.exists():
        study = Study.open(folder)
    else:
        study = Study.create(folder, study_config(CONFIG), command="train")
    done: list[object] = []

    def watch(event: dict[str, Any]) -> None:
        done.extend([event] if event["is"] == "epoch" else [])
        if len(done) == epochs:
            raise Stop

    with suppress(Stop):
        study.run(workers=0, device="cpu", watch=watch)
    return study


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories of 0.1.0: finished, and stopped after two epochs of the second training."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "finished", CONFIG)
    write_run(folder / "stopped", CONFIG, epochs=EPOCHS + 2)
    return {"finished": folder / "finished", "stopped": folder / "stopped"}


def test_a_stopped_run_has_what_the_damages_below_need(runs: dict[str, Path]) -> None:
    stopped = RunDirectory.open(runs["stopped"])
    assert len(stopped.read_metrics()) == EPOCHS + 2
    assert stopped.weights(0, 0).exists()
    assert len(generations(stopped.checkpoint(1, 0))) == 2
    assert not stopped.weights(1, 0).exists()


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[RunDirectory], None]:
    def damage(run: RunDirectory) -> None:
        before = run.metrics.read_text().splitlines(keepends=True)
        run.metrics.write_text("".join(change(before)))

    return damage


def value(column: str, text: str, line: int = 1) -> Callable[[RunDirectory], None]:
    """Write ``text`` into one column of one line of the metrics."""

    def change(before: list[str]) -> list[str]:
        header = before[0].strip().split(",")
        fields = before[line].strip().split(",")
        fields[header.index(column)] = text
        return [*before[:line], ",".join(fields) + "\n", *before[line + 1 :]]

    return lines(change)


def configuration(change: Callable[[dict[str, Any]], object]) -> Callable[[RunDirectory], None]:
    return lambda run: configuration_of(run, change)


def spoil_checkpoints(change: Callable[[bytes], bytes]) -> Callable[[RunDirectory], None]:
    """Damage the checkpoint of the second training, and the one before it."""

    def damage(run: RunDirectory) -> None:
        files = generations(run.checkpoint(1, 0))
        assert len(files) == 2
        for file in files:
            file.write_bytes(change(file.read_bytes()))

    return damage


def other_weights(run: RunDirectory) -> None:
    shutil.copy(run.weights(0, 0), run.weights(1, 0))


DAMAGES: dict[str, tuple[Callable[[RunDirectory], object], str]] = {
    "no metrics": (lambda run: run.metrics.unlink(), "lacks epoch 1 of ring:8"),
    "metrics of 0 bytes": (lambda run: run.metrics.write_text(""), "not a line of metrics"),
    "only a header": (lines(lambda before: before[:1]), "lacks epoch 1 of ring:8"),
    "no header": (lines(lambda before: before[1:]), "line 1"),
    "another header": (lines(lambda b: [b[0].upper(), *b[1:]]), "line 1"),
    "a line missing": (lines(lambda b: [*b[:2], *b[3:]]), "lacks epoch 2 of ring:8"),
    "a line of the checkpoint missing": (
        lines(lambda b: [*b[:4], *b[5:]]),
        "lacks epoch 1 of complete:8",
    ),
    "a line doubled": (lines(lambda b: [*b[:3], b[2], *b[3:]]), "line 4"),
    "a line cut short": (lines(lambda b: [*b[:-1], b[-1][:-20]]), "line 6"),
    "the last character missing": (lines(lambda b: [*b[:-1], b[-1][:-1]]), "line 6"),
    "a field too many": (lines(lambda b: [*b[:2], b[2].strip() + ",1\n", *b[3:]]), "line 3"),
    "bytes that are no text": (lambda run: run.metrics.write_bytes(b"\xff\xfe"), "cannot be read"),
    "a NUL": (lines(lambda b: [*b, "\0\n"]), "line 7"),
    "NaN": (value("train_loss", "nan"), "line 2"),
    "infinity": (value("seconds", "inf"), "line 2"),
    "an error of 101 percent": (value("test_error", "101.0"), "line 2"),
    "an error that is NaN": (value("test_error", "nan"), "line 2"),
    "an epoch of 0": (value("epoch", "0"), "line 2"),
    "an epoch with an underscore": (value("epoch", "1_0"), "line 2"),
    "an epoch too many": (value("epoch", "9"), "does not train"),
    "a seed of another run": (value("seed", "7"), "does not train"),
    "a graph of another run": (value("graph", "ring:16"), "does not train"),
    "weights of 0 bytes": (lambda run: run.weights(0, 0).write_bytes(b""), "cut short"),
    "weights cut short": (
        lambda run: run.weights(0, 0).write_bytes(run.weights(0, 0).read_bytes()[:-9]),
        "cut short",
    ),
    "weights that are a folder": (
        lambda run: (run.weights(0, 0).unlink(), run.weights(0, 0).mkdir()),
        "there is no file",
    ),
    "weights of another graph": (other_weights, "is not the mlp that this run trained"),
    "both checkpoints of 0 bytes": (spoil_checkpoints(lambda content: b""), "cut short"),
    "both checkpoints cut short": (spoil_checkpoints(lambda content: content[:-9]), "cut short"),
    "both checkpoints changed": (
        spoil_checkpoints(lambda content: content[:-9] + b"123456789"),
        "delete 1-complete-8-seed0.safetensors and 1-complete-8-seed0.previous.safetensors",
    ),
    "a configuration of 0 bytes": (
        lambda run: (run.path / "config.json").write_text(""),
        "not the configuration",
    ),
    "a configuration nested 100,000 deep": (
        lambda run: (run.path / "config.json").write_text("[" * 100_000),
        "not the configuration",
    ),
    "a configuration that is a list": (
        lambda run: (run.path / "config.json").write_text("[]"),
        "not the configuration",
    ),
    "hashes that are numbers": (
        configuration(lambda c: c.update(graph_hashes=[1, 2])),
        "not the configuration",
    ),
    "a hash missing": (configuration(lambda c: c["graph_hashes"].pop()), "1 hashes"),
    "an environment that is text": (
        configuration(lambda c: c.update(environment="here")),
        "not the configuration",
    ),
    "another torch": (
        configuration(lambda c: c["environment"].update(torch="1.0")),
        "install torch 1.0",
    ),
    "another number of threads": (
        configuration(lambda c: c["environment"].update(threads=64)),
        "OMP_NUM_THREADS=64",
    ),
    "another device": (
        configuration(lambda c: c["environment"].update(device="cuda")),
        "--device cuda",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused_and_left_as_it_is(
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    spoil, words = DAMAGES[damage]
    spoil(RunDirectory.open(folder))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--resume", "--out", str(folder)])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert words in err
    assert str(folder) in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["metrics", "weights"])
def test_what_the_message_suggests_works(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    run = RunDirectory.open(folder)
    if name == "metrics":
        run.metrics.unlink()
        delete_checkpoint(run.checkpoint(1, 0))
    run.weights(0, 0).unlink()
    train(folder)
    assert lasting(folder) == lasting(runs["finished"])


def test_the_stopped_run_itself_goes_on_to_the_same_bits(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    train(folder)
    assert lasting(folder) == lasting(runs["finished"])


@pytest.mark.parametrize("damage", ["0 bytes", "cut short", "changed", "missing"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    runs: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    path = RunDirectory.open(folder).checkpoint(1, 0)
    content = path.read_bytes()
    path.write_bytes(
        {"0 bytes": b"", "cut short": content[:-9], "changed": content[:-9] + b"123456789"}.get(
            damage, b""
        )
    )
    if damage == "missing":
        path.unlink()
    with pytest.warns(UserWarning, match="from the checkpoint before it, after epoch 1"):
        train(folder)
    assert lasting(folder) == lasting(runs["finished"])


def test_a_test_loss_that_is_not_finite_is_reported(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    value("test_loss", "nan")(RunDirectory.open(folder))
    with pytest.warns(UserWarning, match="the test loss of ring:8 with seed 0 is nan"):
        train(folder)


# -- another environment --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"), [("mpnn_arch", "version of mpnn_arch"), ("processor", "processor")]
)
def test_another_version_or_processor_is_a_warning(
    runs: dict[str, Path], tmp_path: Path, name: str, words: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    configuration(lambda c: c["environment"].update({name: "other"}))(RunDirectory.open(folder))
    with pytest.warns(UserWarning, match=f"another {words} \\(other"):
        train(folder, epochs=1)


def test_a_finished_run_is_shown_in_any_environment(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["finished"], folder)
    configuration(lambda c: c["environment"].update(torch="1.0"))(RunDirectory.open(folder))
    train(folder)


def test_a_run_that_recorded_no_environment_goes_on(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    configuration(lambda c: c.pop("environment"))(RunDirectory.open(folder))
    train(folder)
    assert lasting(folder) == lasting(runs["finished"])


def test_threads_do_not_matter_on_a_gpu() -> None:
    here = environments.environment(CPU) | {"device": "cuda", "processor": "a GPU"}
    environments.check_environment("the run", here | {"threads": 77}, here)
    with pytest.raises(InputError, match="install torch 1"):
        environments.check_environment("the run", here | {"torch": "1"}, here)


def test_a_training_by_cuda_graphs_goes_on_with_them() -> None:
    here = environments.environment(CPU)
    graphed, eager = here | {"cuda_graphs": True}, here | {"cuda_graphs": False}
    environments.check_environment("the run", here, graphed)  # of before there were any
    for begun, now in ((graphed, eager), (eager, graphed)):
        with pytest.raises(InputError, match="resume it with --cuda-graphs as it was then"):
            environments.check_environment("the run", begun, now)


# -- neighbours -----------------------------------------------------------------------------------


def test_the_second_process_is_told_who_the_first_is(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["finished"], folder)
    before = lasting(folder)
    script = (
        "import sys; from pathlib import Path\n"
        "from mpnn_arch.io.lock import FolderLock\n"
        "with FolderLock(Path(sys.argv[1]) / 'lock', 'it'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", "--resume", "--out", str(folder)])
        err = capsys.readouterr().err
        assert stop.value.code == 2
        assert f"is being written by process {first.pid} on {socket.gethostname()} since 20" in err
        assert err.count("\n") == 1
        first.kill()
        first.wait()
    assert (folder / "lock").exists()  # the dead holder's
    train(folder)
    assert lasting(folder) == before


def test_a_lock_is_held_by_one_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    inside, most = [0], [0]
    refused: list[str] = []
    guard = threading.Lock()

    def work() -> None:
        for _ in range(50):
            try:
                with FolderLock(tmp_path / "lock", "the folder"):
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.0005)
                    with guard:
                        inside[0] -= 1
            except InputError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert refused
    assert all("the folder is being written by" in text for text in refused)
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1}', "\0\xff", "[" * 3000])
def test_the_text_of_a_lock_decides_nothing(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "lock"
    lock.write_text(text)
    with FolderLock(lock, "the folder"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        lock.write_text(text)
        with (
            pytest.raises(InputError, match="is being written by another process"),
            FolderLock(lock, "the folder"),
        ):
            pass
    assert not lock.exists()


def test_a_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(InputError, match="cannot write"), FolderLock(tmp_path / "lock", "x"):
        pass
    assert victim.read_text() == "precious"


def test_a_lock_in_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"), FolderLock(tmp_path / "a" / "l", "x"):
        pass


# -- a run directory that cannot be ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "a\0b", "file", "file/run", "broken"])
@pytest.mark.parametrize("resume", [False, True])
def test_paths_that_are_no_run_directory(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    use: Callable[[Path], object] = (
        RunDirectory.open if resume else lambda p: Study.create(p, study_config(CONFIG))
    )
    with pytest.raises(InputError) as error:
        use(tmp_path / name)
    assert len(str(error.value)) < 500
    assert "\0" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_full_disk_at_the_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match=r"No space left on device\): free some space"):
        Study.create(tmp_path / "run", study_config(CONFIG))
    assert os.listdir(tmp_path) == []


def test_a_full_disk_in_the_middle_keeps_the_last_epoch(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    train(folder, epochs=1)
    before = lasting(folder)
    real, count = os.fsync, [0]

    def fail(handle: int) -> None:
        count[0] += 1
        if count[0] > 1:  # the journal reaches the disk, the checkpoint does not
            raise OSError(28, os.strerror(28))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(InputError, match=r"No space left on device.*free some space"):
            train(folder)
    assert lasting(folder) == before
    train(folder)
    assert lasting(folder) == lasting(runs["finished"])


def refused_for_the_disk(folder: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    """Training in ``folder`` exits with 2, in one sentence, and leaves nothing half written."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*TRAIN, "--out", str(folder)])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "mpnn-arch:" in line]
    assert stop.value.code == 2
    assert re.search(words, line)
    assert str(folder) in line
    left = [path.name for path in folder.parent.rglob("*")]
    assert not [name for name in left if "mpnn-arch" in name or name == "lock"]


def test_a_disk_that_fills_up_and_is_freed(
    runs: dict[str, Path], small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, filler = small_disk / "run", small_disk / "filler"
    train(folder, epochs=1)
    before = lasting(folder)
    free = shutil.disk_usage(small_disk).free
    filler.write_bytes(bytes(free - 40_000))
    refused_for_the_disk(folder, capsys, "No space left on device|disk is full")
    assert lasting(folder)["epochs"][: len(before["epochs"])] == before["epochs"]
    filler.unlink()
    train(folder)
    assert lasting(folder) == lasting(runs["finished"])


def test_a_limit_that_is_raised(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        refused_for_the_disk(folder, capsys, "ulimit -f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not folder.exists()
    train(folder)
    assert lasting(folder) == lasting(runs["finished"])


# -- forged checkpoints ---------------------------------------------------------------------------


Forge = Callable[[dict[str, torch.Tensor], dict[str, str]], object]
CHECKPOINTS: dict[str, Forge] = {
    "no identity": lambda tensors, metadata: metadata.pop("identity"),
    "another identity": lambda tensors, metadata: metadata.update(identity="x" * 3000),
    "no epoch": lambda tensors, metadata: metadata.pop("epoch"),
    "an epoch that is text": lambda tensors, metadata: metadata.update(epoch="two"),
    "epoch 0": lambda tensors, metadata: metadata.update(epoch="0"),
    "epoch -1": lambda tensors, metadata: metadata.update(epoch="-1"),
    "epoch 99": lambda tensors, metadata: metadata.update(epoch="99"),
    "no generator": lambda tensors, metadata: tensors.pop("generator"),
    "a generator of fractions": lambda tensors, metadata: tensors.update(generator=torch.rand(9)),
    "a generator cut short": lambda t, metadata: t.update(generator=t["generator"][:-9].clone()),
    "no weights": lambda tensors, metadata: tensors.pop("model/head.weight"),
    "a weight too many": lambda t, metadata: t.update({"model/x": torch.zeros(1)}),
    "a weight of another shape": lambda t, m: t.update({"model/head.weight": torch.zeros(2, 2)}),
    "a momentum of another shape": lambda t, m: t.update(
        {"momentum/head.weight": torch.zeros(2, 2)}
    ),
    "choices that are a list": lambda tensors, metadata: metadata.update(backend_choices="[1]"),
    "choices nested 100,000 deep": lambda t, m: m.update(backend_choices="[" * 100_000),
}


def forge(path: Path, forged: str) -> None:
    """Change the checkpoint at ``path``, and give it a checksum of its own."""
    kind = "mpnn_arch checkpoint 1"
    tensors, metadata = read_tensors(path, kind=kind)
    del metadata["kind"]
    CHECKPOINTS[forged](tensors, metadata)
    write_tensors(path, tensors, metadata, kind=kind)


@pytest.mark.filterwarnings("ignore:there is no file")  # the newest, where it is gone
@pytest.mark.parametrize("generation", ["newest", "previous"])
@pytest.mark.parametrize("forged", CHECKPOINTS)
def test_a_forged_checkpoint_with_its_own_checksum(
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    forged: str,
    generation: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["stopped"], folder)
    path = RunDirectory.open(folder).checkpoint(1, 0)
    if generation == "newest":
        forge(path, forged)
    else:
        forge(previous_checkpoint(path), forged)
        path.unlink()
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--resume", "--out", str(folder)])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in err
    assert str(folder) in err
    assert "delete" in err
    assert err.count("\n") == 1
