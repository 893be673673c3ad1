"""What is printed into narrow terminals, pipes, closed streams and other encodings."""

import io
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from mpnn_arch.cli.output import FOLDED, new_console, print_table

NUMBERS = ("3,776,958,464", "8.17 ± 0.00")
NAME = "ws_flex:16,4.212806671941034,0.4429592510150893,10"


def drawn(width, *, terminal, console=Console):
    """A table of a name, a sentence and two numbers, as lines of text."""
    table = Table(box=None)
    table.add_column("graph", overflow="fold")
    for title in ("what it is", "multiply-adds", "test error (%)"):
        table.add_column(title)
    table.add_row(NAME, "a sentence of some words", *NUMBERS)
    file = io.StringIO()
    options = {"file": file, "width": width, "force_terminal": terminal, "no_color": True}
    print_table(console(**options), table)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [1, 40, 80, 200])
def test_no_number_and_no_name_is_cut_off_in_a_terminal(width):
    text = "\n".join(drawn(width, terminal=True))
    assert "…" not in text
    for word in " ".join(NUMBERS).split():
        assert word in text
    assert "sentence" in text
    assert NAME[:FOLDED] in text
    assert NAME[-2:] in text


def test_a_terminal_that_is_wide_enough_is_not_exceeded():
    assert max(map(len, drawn(80, terminal=True))) <= 80


def test_in_a_pipe_a_row_is_a_line():
    header, row = drawn(40, terminal=False)
    assert header.split() == ["graph", "what", "it", "is", "multiply-adds", "test", "error", "(%)"]
    assert [NAME in row, *(number in row for number in NUMBERS)] == [True] * 3


def test_models_are_shown_whole_in_a_pipe(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code, out, _ = run("models", "mlp")
    assert code == 0
    assert "2,364,568" in out
    assert "1,573,888" in out


def test_a_name_is_no_markup(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[").mkdir()  # the path is [/x].csv
    assert run("graphs", "make", "ring:8", "--out", "[/x].csv")[0] == 0
    for command in (("graphs", "measure"), ("models", "mlp", "--graphs")):
        code, out, err = run(*command, "file:[/x].csv")
        assert (code, err) == (0, "")
        assert "file:[/x].csv" in out


def test_a_console_replaces_no_emoji_codes():
    file = io.StringIO()
    new_console(file=file).print("file:b:x.csv [bold]y[/z]")
    assert file.getvalue() == "file:b:x.csv [bold]y[/z]\n"


def start(*arguments, environment=None, **options):
    return subprocess.run(
        [sys.executable, "-m", "mpnn_arch", *arguments],
        capture_output=True,
        check=False,
        env=os.environ | (environment or {}),
        **options,
    )


@pytest.mark.parametrize(
    ("encoding", "shown"), [("latin-1", b"\\u2603"), ("utf-8", "\u2603".encode())]
)
def test_what_an_encoding_lacks_is_written_otherwise(tmp_path, encoding, shown):
    ran = start(
        *("graphs", "make", "ring:8", "--out", "\u2603.csv"),
        environment={"PYTHONIOENCODING": f"{encoding}:strict"},
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.endswith(b"-> " + shown + b".csv\n")


def test_bytes_of_a_name_that_are_no_characters_come_out_as_they_are(tmp_path):
    ran = start(
        *(b"graphs", b"make", b"ring:8", b"--out", b"\xff.csv"),
        environment={"PYTHONIOENCODING": "utf-8:strict", "PYTHONUTF8": "1"},
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.endswith(b"-> \xff.csv\n")


def test_a_plus_minus_has_a_spelling_in_ascii():
    code = (
        "from mpnn_arch.cli.streams import prepare_streams\nprepare_streams()\nprint('4 ± 1 …')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert ran.stdout == b"4 +- 1 ...\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_error_and_no_file_takes_their_place(tmp_path, closed):
    out = tmp_path / "graph.csv"
    ran = start(
        *("graphs", "make", "ring:8,2", "--out", str(out)),
        preexec_fn=lambda: [os.close(number) for number in closed],
    )
    assert ran.returncode == 0
    assert ran.stderr == b""
    assert len(out.read_text().splitlines()) == 8
    refused = start("graphs", "make", "ring:x", preexec_fn=lambda: [os.close(n) for n in closed])
    assert refused.returncode == 2
    assert refused.stderr.count(b"\n") == (2 not in closed)
