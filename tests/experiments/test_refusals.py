"""What a script of an experiment cannot do is one sentence, as in the commands."""

import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
WITHOUT_RESULTS = {
    "explain_by_network": ["--published", "nowhere"],
    "fig4_landscape": ["--published", "nowhere"],
    "fig5_quick_identification": ["--published", "nowhere"],
    "fig6_brains": ["--published", "nowhere"],
    "length_and_size": ["--studies", "nowhere"],
    "study_results": ["nowhere", "--name", "a"],
    "table2_connectomes": ["--published", "nowhere"],
}


# Refused before anything is trained or drawn, with a word of what is said.
WRONG = [
    ("fig_layer_is_a_round", ["--out", "x.py"], "a .png, .pdf or .svg file"),
    ("fig_layer_is_a_round", ["--out", "folder"], "it is a folder"),
    ("lesson_thumbnails", ["--out", "file"], "file"),
    ("fig7_learned_graph", ["--small", "--nulls", "0"], "nulls is at least 1"),
    ("structure_or_chance", ["--smoke", "--degrees", "-1"], "degrees is at least 0"),
    ("structure_or_chance", ["--smoke", "--seeds", "1"], "seeds is at least 2"),
    ("structure_or_chance", ["--smoke", "--graphs", "complete:16"], "no graph of 'complete:16'"),
]


@pytest.mark.parametrize("name", WITHOUT_RESULTS)
def test_absent_results_are_one_sentence(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in refusal(name, WITHOUT_RESULTS[name], monkeypatch, capsys)


@pytest.mark.parametrize(("name", "options", "word"), WRONG)
def test_a_wrong_option_is_one_sentence(name, options, word, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    assert word in refusal(name, options, monkeypatch, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def refusal(name, options, monkeypatch, capsys):
    """The one line with which a script refuses these options."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name="__main__")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: ")
    assert said.count("\n") == 1
    return said
