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
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.metrics import read_metrics
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training import environment as environments
from mpnn_arch.training.checkpoint import generations, previous_checkpoint
from mpnn_arch.training.config import TrainingConfig

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

KILLS = int(os.environ.get("MPNN_ARCH_KILLS", "20"))
EPOCHS = 3
CONFIG = StudyConfig(
    model="mlp",
    dataset="digits",
    graphs=("ring:8", "complete:8"),
    seeds=(0,),
    training=TrainingConfig(epochs=EPOCHS),
    train_images=300,
    test_images=100,
    backend="masked",  # "auto" would time, and can choose otherwise in another process
    width_multiplier=0.1,
    weights="all",
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
    with Study.open(folder).ledger() as ledger:
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


def train(
    folder: Path, *, epochs: int | None = None, events: list[dict[str, Any]] | None = None
) -> Study:
    """Go on with the study in ``folder``, or make one, for at most ``epochs``."""
    there = folder.exists()
    study = Study.open(folder) if there else Study.create(folder, CONFIG, command="train")
    seen = [] if events is None else events

    def watch(event: dict[str, Any]) -> None:
        seen.append(event)
        if sum(one["is"] == "epoch" for one in seen) == epochs:
            raise Stop

    with suppress(Stop):
        study.run(workers=0, device="cpu", watch=watch)
    return study


def second_checkpoint(folder: Path) -> Path:
    """Of the training that was stopped."""
    with Study.open(folder).ledger() as ledger:
        return folder / "checkpoints" / f"{ledger.find_trial('2')['hash']}.safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Studies: finished, and stopped after two epochs of the second training."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "finished")
    train(folder / "stopped", epochs=EPOCHS + 2)
    return {"finished": folder / "finished", "stopped": folder / "stopped"}


@pytest.fixture
def stopped(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the study that was stopped."""
    return Path(shutil.copytree(runs["stopped"], tmp_path / "run"))


def test_a_stopped_study_has_what_the_damages_below_need(runs: dict[str, Path]) -> None:
    found = lasting(runs["stopped"])
    assert len(found["epochs"]) == EPOCHS + 2
    assert len(found["weights"]) == 1
    assert len(generations(second_checkpoint(runs["stopped"]))) == 2


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda folder: (folder / "study.json").unlink(), "no study.json"),
    "a description of 0 bytes": (rewritten("study.json", lambda text: b""), "description of"),
    "a description nested 100,000 deep": (
        rewritten("study.json", lambda text: b"[" * 100_000),
        "description of",
    ),
    "a description that is a list": (rewritten("study.json", lambda text: b"[]"), "description of"),
    "a description without trials": (
        rewritten("study.json", lambda text: text.replace(b'"trials"', b'"trails"')),
        "description of",
    ),
    "a ledger of 0 bytes": (rewritten("ledger.sqlite", lambda text: b""), "cut short"),
    "a ledger cut short": (rewritten("ledger.sqlite", lambda text: text[:-9]), "cut short"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_study_is_refused_and_left_as_it_is(
    stopped: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    spoil, words = DAMAGES[damage]
    spoil(stopped)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--resume", "--out", str(stopped)])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert words in err
    assert str(stopped) in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_the_stopped_study_itself_goes_on_to_the_same_bits(
    runs: dict[str, Path], stopped: Path
) -> None:
    train(stopped)
    assert lasting(stopped) == lasting(runs["finished"])


@pytest.mark.parametrize("damage", ["0 bytes", "cut short", "changed", "missing"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    runs: dict[str, Path], stopped: Path, damage: str
) -> None:
    path = second_checkpoint(stopped)
    content = path.read_bytes()
    path.write_bytes(
        {"0 bytes": b"", "cut short": content[:-9], "changed": content[:-9] + b"123456789"}.get(
            damage, b""
        )
    )
    if damage == "missing":
        path.unlink()
    with pytest.warns(UserWarning, match="from the checkpoint before it, after epoch 1"):
        train(stopped)
    assert lasting(stopped) == lasting(runs["finished"])


@pytest.mark.parametrize("content", [b"", b"123456789"])
def test_where_both_checkpoints_are_damaged_the_training_starts_again(
    runs: dict[str, Path], stopped: Path, content: bytes
) -> None:
    for path in generations(second_checkpoint(stopped)):
        path.write_bytes(content)
    events: list[dict[str, Any]] = []
    train(stopped, events=events)
    (note,) = [event["text"] for event in events if event["is"] == "note"]
    assert "is damaged too" in note
    assert lasting(stopped) == lasting(runs["finished"])


# -- another environment --------------------------------------------------------------------------


def begun_with(folder: Path, name: str) -> None:
    """Write another value into what the ledger says of the machine of every trial."""
    with LedgerWriter(folder / "ledger.sqlite") as ledger, ledger.transaction():
        ledger.connection.execute(f"UPDATE trial SET machine = json_set(machine, '$.{name}', '1')")


@pytest.mark.parametrize(
    ("name", "words"), [("mpnn_arch", "version of mpnn_arch"), ("processor", "processor")]
)
def test_another_version_or_processor_is_a_warning(stopped: Path, name: str, words: str) -> None:
    begun_with(stopped, name)
    with pytest.warns(UserWarning, match=f"another {words} \\(1, now"):
        train(stopped, epochs=1)


@pytest.mark.parametrize(("name", "fix"), [("torch", "install torch 1"), ("device", "--device 1")])
def test_another_torch_or_device_is_refused_while_something_is_begun(
    runs: dict[str, Path], stopped: Path, tmp_path: Path, name: str, fix: str
) -> None:
    begun_with(stopped, name)
    with pytest.raises(InputError, match=fix):
        train(stopped)
    done = Path(shutil.copytree(runs["finished"], tmp_path / "done"))
    begun_with(done, name)
    train(done)


def test_a_training_by_cuda_graphs_goes_on_with_them() -> None:
    here = environments.environment(torch.device("cpu"))
    graphed, eager = here | {"cuda_graphs": True}, here | {"cuda_graphs": False}
    for begun, now in ((graphed, eager), (eager, graphed)):
        with pytest.raises(InputError, match="resume it with --cuda-graphs as it was then"):
            environments.check_environment("the run", begun, now, "start anew")


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
        for turn in range(50):
            try:
                with FolderLock(tmp_path / "lock", "the folder"):
                    with guard:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.0005 if turn else 0.3)  # longer than one who asks would wait
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


# -- a folder that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "a\0b", "file", "file/run", "broken"])
@pytest.mark.parametrize("resume", [False, True])
def test_paths_that_cannot_be_a_study(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    use: Callable[[Path], object] = (
        Study.open if resume else lambda path: Study.create(path, CONFIG)
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
        Study.create(tmp_path / "run", CONFIG)
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
def test_a_forged_checkpoint_with_its_own_checksum_is_told_and_trained_again(
    runs: dict[str, Path], stopped: Path, forged: str, generation: str
) -> None:
    path = second_checkpoint(stopped)
    if generation == "newest":
        forge(path, forged)
    else:
        forge(previous_checkpoint(path), forged)
        path.unlink()
    events: list[dict[str, Any]] = []
    train(stopped, events=events)
    (note,) = [event["text"] for event in events if event["is"] == "note"]
    assert str(stopped) in note
    assert "delete" in note
    assert "\n" not in note
    assert lasting(stopped) == lasting(runs["finished"])
