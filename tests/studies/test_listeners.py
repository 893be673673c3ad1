import errno
import json
import math
import os
import sys
from types import SimpleNamespace

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies.listeners import JSONLines, TensorBoard, several

from .conftest import made_up_metrics

TRIAL = {
    "id": 3, "hash": "ab12", "graph": "ring:8,2", "seed": 1, "message": None, "aggr": "sum",
    "epochs": 2,
}  # fmt: skip


def epoch(number, error=10.0):
    return {**TRIAL, "is": "epoch", "metrics": made_up_metrics(number, error), "wall": 0.5}


def test_json_lines_hold_every_event_and_only_numbers_that_are_finite(tmp_path):
    path = tmp_path / "log.jsonl"
    for _ in range(2):  # a continuation adds lines
        with JSONLines(path) as log:
            log(epoch(1))
            assert path.read_text().endswith("}\n")  # before the file is closed
            log(epoch(2, math.nan))
            log({**TRIAL, "is": "failed", "reason": "no", "given_up": True})
            log({"is": "note", "text": "hello"})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["epoch", "epoch", "failed", "note"] * 2
    first, second, failed, note = lines[:4]
    assert first.items() >= {
        "trial": 3, "hash": "ab12", "graph": "ring:8,2", "seed": 1, "epoch": 1, "test_error": 10.0,
        "wall": 0.5,
    }.items()  # fmt: skip
    assert second["test_error"] is None
    assert failed["reason"] == "no"
    assert note["text"] == "hello"
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_a_log_that_cannot_be_written_is_one_sentence_at_once(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="give another --log-json"):
        JSONLines(tmp_path / "nowhere" / "log.jsonl")
    if os.path.exists("/dev/full"):
        with pytest.raises(InputError, match="No space left on device"):
            JSONLines("/dev/full")
    full = SimpleNamespace(f_blocks=9, f_bavail=0)
    monkeypatch.setattr(os, "fstatvfs", lambda file: full, raising=False)
    with pytest.raises(InputError, match="No space left on device"):
        JSONLines(tmp_path / "log.jsonl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_log_may_be_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with JSONLines(path) as log:
        log(epoch(1))
        assert json.loads(os.read(end, 4096))["epoch"] == 1
        os.close(end)
        with pytest.raises(BrokenPipeError):  # with which a command ends quietly
            log(epoch(2))


@pytest.mark.parametrize("cut", [1, 12, 60])
def test_a_line_cut_short_is_removed_by_the_continuation(tmp_path, cut):
    path = tmp_path / "log.jsonl"
    with JSONLines(path) as log:
        log(epoch(1))
        whole = path.read_bytes()
        log(epoch(2))
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    with JSONLines(path) as log:
        assert path.read_bytes() == whole
        log(epoch(3))
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 3]


def test_a_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    with JSONLines(path) as log:
        log(epoch(1))
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    with JSONLines(path) as log:
        log(epoch(2))
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]
    path.write_text("a line of another program")
    with JSONLines(path) as log:
        log(epoch(1))
    assert path.read_text().startswith('a line of another program\n{"time": ')


def test_a_disk_that_fills_up_within_a_line_is_noticed_at_that_line(tmp_path):
    class Filling:
        """A raw file on such a disk: it takes a part, and then nothing."""

        room = 20

        def write(self, text):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken, self.room = min(self.room, len(text)), 0
            return taken

    log = JSONLines(tmp_path / "log.jsonl")
    log._file.close()
    log._file = Filling()
    with pytest.raises(InputError, match="No space left on device"):
        log(epoch(1))


def test_tensorboard_has_a_run_a_trial_and_each_epoch_once(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = []
    for numbers in ((1, 2), (3,)):
        with TensorBoard(tmp_path / "board") as board:
            listener = several(board, told.append)
            for number in numbers:
                listener(epoch(number, error=20.0 - number))
            listener({**TRIAL, "is": "done"})
            listener({"is": "note", "text": ""})
    (run,) = (tmp_path / "board").iterdir()
    assert run.name == "3-ring-8-2-sum-seed1"
    read = EventAccumulator(str(run))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("test_error")] == [(1, 19), (2, 18), (3, 17)]
    assert len(told) == 7


def test_a_missing_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install .mpnn-arch\[tensorboard\]"):
        TensorBoard(tmp_path)
