"""What a script of an experiment cannot do is one sentence, as in the commands."""

import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPTS = [
    "explain_by_network",
    "fig4_landscape",
    "fig5_quick_identification",
    "fig6_brains",
    "table2_connectomes",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_absent_results_are_one_sentence(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.setattr(sys, "argv", [name, "--published", "nowhere"])
    with pytest.raises(SystemExit, match="nowhere"):
        runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name="__main__")
