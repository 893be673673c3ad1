"""Figures: atomic writes, and one sentence where matplotlib is missing."""

import pickle
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mpnn_arch import InputError
from mpnn_arch.cli.bench import bench
from mpnn_arch.io.figures import new_figure, save_figure
from mpnn_arch.io.picture import Picture


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_figure_is_written_in_the_format_of_its_suffix(tmp_path: Path, ending: str) -> None:
    figure = new_figure(2, 1)
    figure.add_subplot().plot([0, 1], [1, 0])
    save_figure(figure, tmp_path / f"line.{ending}")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert (tmp_path / f"line.{ending}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_notebook_shows_a_figure_before_pyplot_is_in_use() -> None:
    # It asks an object for this method where it has no way of its own to show it.
    figure = new_figure(2, 1)
    assert isinstance(figure, Picture)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert type(pickle.loads(pickle.dumps(figure))) is type(figure)


def test_without_matplotlib_one_sentence_says_so_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "mpnn_arch.io.picture", raising=False)
    with pytest.raises(InputError, match="figures need matplotlib"):
        new_figure(1, 1)
    result = CliRunner().invoke(bench, ["--graphs", "ring:8,2", "--out", str(tmp_path / "receipt")])
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "receipt").exists()
