"""The command line as a whole: help, exit codes and error messages."""

import os
import subprocess
import sys

import pytest

from mpnn_arch import cli
from mpnn_arch.errors import InputError


def test_help_lists_the_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["graphs"]])
def test_the_list_of_commands_is_whole_in_80_columns(run, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(*arguments, "--help")
    listed = out.partition("Commands:")[2].strip().splitlines()
    assert listed
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["train", "--nonsense"], ["verify", "--in-channels", "x"]]
)
def test_a_wrong_command_line_exits_with_2(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Usage" in err


def test_the_nearest_command_is_named(run):
    code, _, err = run("swep")
    assert code == 2
    assert "There is no command 'swep' (did you mean 'sweep'?)." in err


def test_bad_input_is_one_sentence_and_exits_with_2(run, monkeypatch):
    def refuse(**_):
        raise InputError("a sentence")

    monkeypatch.setattr(cli.cli, "main", refuse)
    assert run() == (2, "", "mpnn-arch: a sentence\n")


def test_a_closed_pipe_gives_no_traceback():
    read, write = os.pipe()
    os.close(read)
    finished = subprocess.run(
        [sys.executable, "-m", "mpnn_arch", "train", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert "Traceback" not in finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no current folder")
def test_a_deleted_current_folder_is_one_sentence(tmp_path):
    # MKL ends the process there at its first product, with a line of its own.
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, sys; from mpnn_arch.cli import main; os.chdir(sys.argv[1]); "
        "os.rmdir(sys.argv[1]); main(sys.argv[2:])"
    )
    command = [sys.executable, "-c", code, str(gone), "verify", "--graph", "ring:8"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert "the current folder was deleted" in finished.stderr
