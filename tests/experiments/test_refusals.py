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


@pytest.mark.parametrize("name", WITHOUT_RESULTS)
def test_absent_results_are_one_sentence(name, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *WITHOUT_RESULTS[name]])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name="__main__")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: ")
    assert "nowhere" in said
    assert said.count("\n") == 1
