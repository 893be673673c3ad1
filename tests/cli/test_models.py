import os
import re
import subprocess
import sys

import pytest

from mpnn_arch import graphs, models
from mpnn_arch.cli.model_list import ROWS

GRAPH = "ws_flex:16,5,0.15,0"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_lists_every_model(run):
    code, out, _ = run("models")
    assert code == 0
    for name in models.list_models():
        assert name in out
    assert "3,663,761,408" in out


def test_the_list_is_that_of_the_classes():
    kinds = {name: models.MODELS.get(name) for name in models.MODELS}
    assert {row[0]: row[1:] for row in ROWS} == {
        name: (
            kind.summary,
            kind.default_graph,
            " x ".join(map(str, kind().input_shape)),
            kind().multiply_adds(),
        )
        for name, kind in kinds.items()
    }


def test_the_list_imports_no_torch():
    code = (
        "import sys\nfrom mpnn_arch.cli import main\n"
        "try:\n    main(['models'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0


def test_stages_are_shown_with_the_complete_graph(run):
    code, out, _ = run("models", "resnet20", "--graph", GRAPH)
    assert code == 0
    widths = models.match_budget("resnet20", graphs.parse_one(GRAPH))
    for stage, width in enumerate(widths):
        (row,) = [line for line in out.splitlines() if f"stages.{stage}" in line]
        cells = [cell.strip() for cell in re.split("[│|]", row)]
        assert cells[2] == str(width)
        assert cells[6] == str((16, 32, 64)[stage])
    assert "of the dense model's 40,813,184" in out


def test_layers_and_dense(run):
    code, out, _ = run("models", "cnn8", "--dense", "--layers", "--image-size", "32")
    assert code == 0
    assert "stages.2.1" in out
    assert "48,957,952" not in out  # that is with 10 classes
    assert (
        out.splitlines()[-1].split()[-1]
        == f"{models.make_config('cnn8', image_size=32).multiply_adds():,}"
    )


def test_diagram_is_written(run, tmp_path):
    path = tmp_path / "model.svg"
    code, out, _ = run("models", "mlp", "--diagram", path)
    assert code == 0
    assert "wrote" in out
    assert "<svg" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet43"], "did you mean 'resnet34'"),
        (["--layers"], "name a model"),
        (["mlp", "--dense", "--graph", "ring:64"], "leave out one"),
        (["resnet20", "--graph", "complete:40"], "fewer than the 40 nodes"),
        (["resnet20", "--image-size", "2"], "the image is too small for resnet20"),
        (["mlp", "--diagram", "nowhere/at/all.png"], "cannot write"),
        (["mlp", "--diagram", "mlp.doc"], "a picture is a .png"),
        (["mlp", "--diagram", ".png"], "by the ending of its name, not .png; give a name such as"),
        (["mlp", "--diagram", os.devnull], "is a device"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, sentence):
    code, out, err = run("models", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_graph_wider_than_the_dense_model_is_compared_with_it(run):
    """The graph has more nodes than the dense first stage has channels."""
    code, out, _ = run("models", "mlp", "--graph", "ring:300", "--width-multiplier", "0.75")
    assert code == 0
    assert "384" in out
