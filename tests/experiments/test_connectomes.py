"""The scripts that set connectomes beside results look for both where they are."""

import runpy
import shutil
import sys
from itertools import combinations
from pathlib import Path

import matplotlib.figure
import pytest

from mpnn_arch.graphs import CONNECTOMES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ROWS = Path(__file__).parents[1] / "published_rows" / "other_architectures"
SHARED = Path(__file__).parents[3] / "shared"


def run(name, monkeypatch, *arguments):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name="__main__")
    assert not end.value.code


@pytest.mark.skipif(
    not (SHARED / "connectomes").is_dir(), reason="the connectomes are not in ../shared"
)
@pytest.mark.parametrize("where", ["named", "beside"])
def test_connectomes_beside_results_or_in_the_named_folder(where, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    shutil.copytree(ROWS, folder)
    if where == "beside":
        shutil.copytree(SHARED / "connectomes", tmp_path / "connectomes")
        monkeypatch.delenv("MPNN_ARCH_DATA", raising=False)
    else:
        monkeypatch.setenv("MPNN_ARCH_DATA", str(SHARED))
    monkeypatch.chdir(folder)
    run("fig6_brains", monkeypatch, "--published", ".", "--out", tmp_path / "fig6")
    written = (tmp_path / "fig6" / "fig6.csv").read_text()
    assert all(name in written for name in CONNECTOMES)


def test_names_of_networks_cover_neither_each_other_nor_dots(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    script = runpy.run_path(str(EXPERIMENTS / "table2_connectomes.py"))
    drawn = []
    monkeypatch.setitem(
        script["draw"].__globals__, "save_figure", lambda figure, path: drawn.append(figure)
    )
    rows = [(f"best of $network_{i}", 0.3 + 0.04 * i, 2.0, 0.2, 1.9, 30.0) for i in range(4)]
    columns = ["network", "C", "L", "null_C", "null_L", "error"]
    script["draw"](script["pd"].DataFrame(rows, columns=columns), [], tmp_path)
    figure = drawn[0]
    figure.savefig(tmp_path / "figure.png")
    (legend,) = figure.legends
    named = [text for text in legend.get_texts() if "best of" in text.get_text()]
    inside = [text for text in figure.axes[0].texts if text.get_text()]
    assert [text.get_text() for text in inside] == ["1", "2", "3", "4"]
    boxes = [text.get_window_extent() for text in named + inside]
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_every_sweet_spot_is_drawn(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    script = runpy.run_path(str(EXPERIMENTS / "table2_connectomes.py"))
    results = script["read_many"]([ROWS]) * 2
    drawn = []
    monkeypatch.setitem(
        script["draw"].__globals__, "save_figure", lambda figure, path: drawn.append(figure)
    )
    script["draw"](script["pd"].DataFrame(columns=["network"]), results, tmp_path)
    assert isinstance(drawn[0], matplotlib.figure.Figure)
    assert len(drawn[0].axes[0].lines) == len(results) == 8
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn[0].axes[0].lines}
    assert len(looks) == 8
