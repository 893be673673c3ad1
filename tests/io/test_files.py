import os
import shlex

import pytest

from mpnn_arch.io.files import typed_path, write_text, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_before_is_kept_under_its_own_name(tmp_path):
    path, before = tmp_path / "a.txt", tmp_path / "a.previous.txt"
    for text in ("one", "two", "three"):
        write_whole(path, lambda file, text=text: file.write_text(text), previous=before)
    assert (path.read_text(), before.read_text()) == ("three", "two")
    assert names(tmp_path) == ["a.previous.txt", "a.txt"]


def test_where_links_are_not_known_the_file_before_is_renamed(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    path, before = tmp_path / "a.txt", tmp_path / "a.previous.txt"
    for text in ("one", "two"):
        write_whole(path, lambda file, text=text: file.write_text(text), previous=before)
    assert (path.read_text(), before.read_text()) == ("two", "one")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="words are divided as by a POSIX shell")
@pytest.mark.parametrize("name", ["runs/ring", "my runs/$a 'b'", "-runs", "rüns"])
def test_a_path_in_a_command_is_one_word_and_no_option(name):
    (word,) = shlex.split(typed_path(name))
    assert os.path.abspath(word) == os.path.abspath(name)
    assert not word.startswith("-")
