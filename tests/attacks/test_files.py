"""Files are whole or absent: full disks, limits, bad paths, killed writers, devices."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mpnn_arch import InputError, cli, graphs
from mpnn_arch.io import files, processes, temporary
from mpnn_arch.io.figures import new_figure, save_figure
from mpnn_arch.io.files import WriteError, check_folder, make_folder, write_text, write_whole
from mpnn_arch.io.temporary import new_temporary_folder, sweep
from mpnn_arch.io.tensor_file import write_tensors

IS_ROOT = os.geteuid() == 0


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# -- one write ------------------------------------------------------------------------------------


def test_a_file_is_replaced_at_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old\n")

    def write(temporary: Path) -> None:
        assert path.read_text() == "old\n"
        assert temporary.name == path.name  # a library may choose a format by the suffix
        temporary.write_text("new\n")
        assert path.read_text() == "old\n"

    write_whole(path, write)
    assert path.read_text() == "new\n"
    assert names(tmp_path) == ["table.csv"]


def test_the_content_reaches_the_disk_before_the_name_and_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        order.append("fsync folder" if is_folder else "fsync file")
        fsync(handle)

    def note_replace(old: Path, new: Path) -> None:
        order.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text(tmp_path / "x", "content")
    assert order == ["fsync file", "rename", "fsync folder"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "text", "x")
        write_tensors(tmp_path / "tensors", {"a": torch.zeros(2)}, {}, kind="test")
    finally:
        os.umask(before)
    for name in ("text", "tensors"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), OSError(28, "full")])
@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_failure_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, moment: str
) -> None:
    path = tmp_path / "x"
    write_text(path, "old")

    def fail(*arguments: object) -> None:
        raise failure

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        if moment == "write":
            fail()

    if moment != "write":
        monkeypatch.setattr(os, moment, fail)
    expected = WriteError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "another disk"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "check the disk"),
    ],
)
def test_the_message_names_path_reason_and_fix(tmp_path: Path, code: int, words: str) -> None:
    def write(temporary: Path) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(InputError) as error:
        write_whole(tmp_path / "x", write)
    message = str(error.value)
    assert str(tmp_path / "x") in message
    assert os.strerror(code) in message
    assert words in message
    assert "mpnn-arch-" not in message  # not the temporary path, which means nothing to a user


WRITERS: dict[str, Callable[[Any], object]] = {
    "text": lambda path: write_text(path, "x"),
    "tensors": lambda path: write_tensors(path, {"a": torch.zeros(2)}, {}, kind="test"),
    "figure": lambda path: save_figure(new_figure(1, 1), path),
}


def bad_paths(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "file").write_text("")
    (folder / "folder").mkdir()
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "pipe")
    return {
        "a folder": (folder / "folder", "it is a folder"),
        "5,000 characters": (folder / ("x" * 5000), "(5"),
        "300 characters": (folder / ("x" * 300), "shorter"),
        "/dev/full": (Path("/dev/full"), "a device"),
        "/dev/null": (Path("/dev/null"), "a device"),
        "a pipe": (folder / "pipe", "a pipe"),
        "a folder that is a file": (folder / "file" / "x", "part of the path is a file"),
        "below /dev/full": (Path("/dev/full/x"), "part of the path is a file"),
        "no folder": (folder / "none" / "x", "create its folder"),
        "a circle of links": (folder / "circle" / "x", "circle"),
    }


NO_PATHS = {
    "": "the path is empty; give the name of a file",
    "a\0b": "the path 'a.x00b' holds a NUL character; leave it out",
    "a\ud800": "the path 'a.ud800' holds a character that names of files cannot have",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_bad_paths_are_one_sentence(tmp_path: Path, writer: str) -> None:
    if writer == "figure":
        pytest.importorskip("matplotlib")
    full = os.stat("/dev/full").st_rdev
    paths = bad_paths(tmp_path)
    before = names(tmp_path)
    for kind, (path, words) in paths.items():
        with pytest.raises(InputError) as error:
            WRITERS[writer](path)
        message = str(error.value)
        assert words in message, kind
        assert "cannot write" in message, kind
        assert len(message) < 500, kind
        assert "\n" not in message, kind
        assert "\0" not in message, kind
    for path, words in NO_PATHS.items():
        with pytest.raises(InputError, match=words):
            WRITERS[writer](path)
    assert names(tmp_path) == before
    assert os.stat("/dev/full").st_rdev == full  # still the device


def test_bad_folders_are_one_sentence(tmp_path: Path) -> None:
    paths = bad_paths(tmp_path)
    for kind in ("5,000 characters", "a folder that is a file", "/dev/full", "a pipe"):
        for check in (check_folder, make_folder):
            with pytest.raises(WriteError):
                check(paths[kind][0])
    for check in (check_folder, make_folder):
        for path, words in NO_PATHS.items():
            with pytest.raises(InputError, match=words):
                check(path)
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path / "link", tmp_path / "link" / "x"):
        with pytest.raises(WriteError, match="is a symbolic link to nowhere, which is not there"):
            check_folder(path)
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert not check_folder(tmp_path / "c" / "d").exists()


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(WriteError, match="permissions"):
            write_text(tmp_path / "x", "")
        with pytest.raises(WriteError, match="permissions"):
            check_folder(tmp_path / "new")
    finally:
        tmp_path.chmod(0o755)


def test_a_symbolic_link_is_replaced_and_its_target_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()


# -- what killed processes leave ------------------------------------------------------------------


def killed_while_writing(folder: Path) -> str:
    """Kill a process in the middle of a write; the name that it left."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mpnn_arch.io.files import write_whole\n"
        "def write(path):\n"
        "    path.write_text('half'); (path.parent / '.tmpAbCdEf').write_text('more')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(Path(sys.argv[1]) / 'x', write)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = [name for name in os.listdir(folder) if name.startswith(".mpnn-arch-")]
    return left


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "old")
    left = killed_while_writing(tmp_path)
    assert (tmp_path / left / ".tmpAbCdEf").exists()
    assert (tmp_path / "x").read_text() == "old"
    files._SWEPT.clear()  # this process has swept the folder already
    write_text(tmp_path / "y", "")
    assert names(tmp_path) == ["x", "y"]


def test_a_live_writer_keeps_its_folder(tmp_path: Path) -> None:
    own = new_temporary_folder(tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from mpnn_arch.io.temporary import new_temporary_folder\n"
        "print(new_temporary_folder(Path(sys.argv[1])), flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as live:
        assert live.stdout is not None
        other = Path(live.stdout.readline().strip())
        old = time.time() - 10 * temporary._OLD_AGE
        os.utime(other, (old, old))
        sweep(tmp_path)
        assert own.exists()
        assert other.exists()
        live.kill()
        live.wait()
    sweep(tmp_path)
    assert own.exists()
    assert not other.exists()


def test_a_number_used_again_is_another_process(tmp_path: Path) -> None:
    start = processes.start_of(os.getpid())
    if start == 0:
        pytest.skip("this system does not tell when a process started")
    before = f".mpnn-arch-{processes.place()}-{os.getpid()}-{start - 1}-abcdefgh"
    now = f".mpnn-arch-{processes.place()}-{os.getpid()}-{start}-abcdefgh"
    for name in (before, now):
        (tmp_path / name).mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == [now]


def test_where_nothing_tells_whether_the_writer_lives_an_hour_decides(tmp_path: Path) -> None:
    elsewhere = ".mpnn-arch-00000000-1-1-abcdefgh"
    others = [".bashrc", "results.csv", "tmp", ".tmpX8Lc2q", ".mpnn-arch-notes", "table.csv.tmp"]
    for name in [elsewhere, *others]:
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert set(names(tmp_path)) == {elsewhere, *others}
    for name in names(tmp_path):
        old = time.time() - 2 * temporary._OLD_AGE
        os.utime(tmp_path / name, (old, old))
    sweep(tmp_path)
    assert set(names(tmp_path)) == {*others}


def test_the_clock_of_the_file_system_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This host's clock may be hours ahead of the file server's.
    elsewhere = ".mpnn-arch-00000000-1-1-abcdefgh"
    (tmp_path / elsewhere).mkdir()
    hours = time.time() + 10 * temporary._OLD_AGE
    monkeypatch.setattr(time, "time", lambda: hours)
    sweep(tmp_path)
    assert names(tmp_path) == [elsewhere]


def test_a_link_with_a_temporary_name_does_not_lead_out(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.mkdir()
    folder.mkdir()
    (victim / "precious").write_text("x")
    (folder / f".mpnn-arch-{processes.place()}-999999999-1-abcdefgh").symlink_to(victim)
    sweep(folder)
    assert names(folder) == []
    assert names(victim) == ["precious"]


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    threads = [
        threading.Thread(target=lambda text=text: [write_text(tmp_path / "x", text)] * 5)
        for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "x").read_text() in texts
    assert names(tmp_path) == ["x"]


# -- full disks and limits ------------------------------------------------------------------------


LARGE: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "x" * 2**21),
    "tensors": lambda path: write_tensors(path, {"a": torch.zeros(2**19)}, {}, kind="test"),
}


@pytest.mark.parametrize("writer", LARGE)
def test_a_full_disk(small_disk: Path, writer: str) -> None:
    write_text(small_disk / "x", "old")
    with pytest.raises(WriteError, match=r"No space left on device.*free some space"):
        LARGE[writer](small_disk / "x")
    assert (small_disk / "x").read_text() == "old"
    assert names(small_disk) == ["x"]


@pytest.mark.parametrize("writer", LARGE)
def test_a_limit_on_the_size_of_files(tmp_path: Path, limit: None, writer: str) -> None:
    write_text(tmp_path / "x", "old")
    with pytest.raises(WriteError, match=r"File too large.*ulimit -f"):
        LARGE[writer](tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


# -- the command line -----------------------------------------------------------------------------


COMMANDS = {
    "make": ["graphs", "make", "ring:200", "--force"],
    "measure": ["graphs", "measure", "ring:8", "--force"],
    "draw": ["graphs", "draw", "ring:8", "--force"],
    "train": ["train", "--dataset", "digits", "--graph", "ring:8"],
    "compare": ["compare", "--dataset", "digits", "--epochs", "1", "--graph", "ring:8"],
    "models": ["models", "mlp", "--diagram"],
}


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_it_in_one_sentence_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    if command == "draw":
        pytest.importorskip("matplotlib")
    paths = bad_paths(tmp_path)
    before = names(tmp_path)
    suffix = {"draw": ".png", "make": ".csv", "models": ".png"}.get(command, "")
    for kind in ("5,000 characters", "below /dev/full", "a folder that is a file"):
        path = f"{paths[kind][0]}{suffix}"
        out = [path] if command == "models" else ["--out", path]
        code, err = run(capsys, [*COMMANDS[command], *out])
        assert code == 2, kind
        assert "Traceback" not in err
        assert err.count("\n") == 1, err
        assert len(err) < 800
    assert names(tmp_path) == before


def test_a_graph_that_does_not_fit_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: None
) -> None:
    out = tmp_path / "g.npy"
    out.write_text("old")
    code, err = run(capsys, ["graphs", "make", "ring:400", "--force", "--out", str(out)])
    assert code == 2
    assert "ulimit -f" in err
    assert out.read_text() == "old"
    assert names(tmp_path) == ["g.npy"]


@pytest.mark.parametrize("suffix", ["npy", "csv", "txt", "graphml", "gexf"])
def test_every_format_of_a_graph_is_written_whole(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"g.{suffix}"
    with pytest.raises(SystemExit) as stop:
        cli.main(["graphs", "make", "ws_flex:16,4,0.2,0", "--out", str(out)])
    assert stop.value.code == 0
    assert graphs.RelationalGraph.from_file(out).num_nodes == 16
    assert names(tmp_path) == [out.name]
