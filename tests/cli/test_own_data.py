"""``train`` and ``compare`` on a user's own data, and what a model without a recipe says."""

import csv
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mpnn_arch.io.tensor_file import read_tensors
from mpnn_arch.studies.building import load_data
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.study import Study
from mpnn_arch.training.config import TrainingConfig

QUICK = ["--graph", "complete:4", "--seeds", "1", "--epochs", "2", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Twelve dark and bright images of two classes, and a module whose import leaves a trace."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for low, name in ((0, "dark"), (192, "bright")):
            made = tmp_path / "pictures" / part / name
            made.mkdir(parents=True)
            for i in range(count):
                pixels = draws.integers(low, low + 64, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(made / f"{i}.png")
    (tmp_path / "own_pictures.py").write_text(
        "from pathlib import Path\n"
        "from mpnn_arch.training import load_dataset\n"
        "Path('imported').touch()\n"
        "def load():\n"
        "    return load_dataset('pictures')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    load_data.cache_clear()  # one process would not look again
    yield tmp_path
    load_data.cache_clear()
    sys.modules.pop("own_pictures", None)


def errors(path):
    with (path / "metrics.csv").open(newline="") as file:
        return [(row["train_loss"], row["test_error"]) for row in csv.DictReader(file)]


def stop_after_an_epoch(monkeypatch, run, *arguments):
    """Start a run and press Ctrl-C in its second epoch."""
    from mpnn_arch.training.trainer import Trainer

    real, done = Trainer.train_epoch, []

    def train_epoch(self):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", train_epoch)
        return run(*arguments)


def test_a_folder_is_trained_on_and_found_again(folder, monkeypatch, run):
    begin = ["train", "--dataset", "pictures", *QUICK]
    assert run(*begin, "--out", "whole")[0] == 0
    code, _, err = stop_after_an_epoch(monkeypatch, run, *begin, "--out", "stopped")
    assert (code, "--out stopped --resume" in err) == (130, True)
    assert Study.open("stopped").config.dataset == str(folder / "pictures")
    # From another folder, and without naming it again.
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    code, out, err = run("train", "--out", "../stopped", "--resume")
    assert code == 0, err
    assert "mlp has no recipe" not in out
    assert errors(folder / "stopped") == errors(folder / "whole")


def test_images_that_changed_stop_the_resume(folder, monkeypatch, run):
    begin = ["train", "--dataset", "pictures", *QUICK, "--out", "stopped"]
    stop_after_an_epoch(monkeypatch, run, *begin)
    Image.new("RGB", (8, 8)).save(folder / "pictures" / "train" / "bright" / "0.png")
    load_data.cache_clear()
    code, _, err = run("train", "--out", "stopped", "--resume")
    assert code == 2
    assert "is not the one that the study was made with" in err
    assert err.count("\n") == 1


def test_a_function_is_imported_only_where_it_is_named(folder, monkeypatch, run):
    begin = ["train", "--dataset", "own_pictures:load", *QUICK]
    assert run("train", "--dataset", "pictures", *QUICK, "--out", "folder")[0] == 0
    assert not (folder / "imported").exists()
    _, _, err = stop_after_an_epoch(monkeypatch, run, *begin, "--out", "stopped")
    assert "--out stopped --resume" in err
    assert Study.open("stopped").config.dataset == "own_pictures:load"

    # One that somebody else made: its key is not ours.
    (folder / "imported").unlink()
    load_data.cache_clear()
    del sys.modules["own_pictures"]
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "another_user"))
        code, _, err = run("train", "--out", "stopped", "--resume")
        assert code == 2
        assert "would run code by import path (own_pictures:load)" in err
        assert not (folder / "imported").exists()
    code, _, err = run("train", "--out", "stopped", "--resume")
    assert code == 0, err
    assert (folder / "imported").exists()
    assert errors(folder / "stopped") == errors(folder / "folder")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_function_that_returns_other_data_when_called_again_is_refused(folder, run, workers):
    (folder / "own_pictures.py").write_text(
        "import torch\n"
        "from mpnn_arch.training import ImageDataset\n"
        "def load():\n"
        "    images, labels = torch.rand(20, 1, 4, 4), torch.arange(20) % 2\n"
        "    parts = dict(train_images=images, test_images=images)\n"
        "    labelled = dict(train_labels=labels, test_labels=labels, num_classes=2)\n"
        "    return ImageDataset(name='drawn', **parts, **labelled)\n"
    )
    arguments = ["--dataset", "own_pictures:load", *QUICK, "--out", "drawn", "--workers", workers]
    code, _, err = run("train", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert "'own_pictures:load' returns other images or labels at every call" in err
    assert not (folder / "drawn").exists()


def test_the_default_folders_have_plain_names(folder, run):
    assert run("train", "--dataset", "own_pictures:load", *QUICK)[0] == 0
    compare = ["--graph", "complete:4", "--seeds", "1", "--epochs", "1"]
    compare += ["--aggr", "sum", "--message", "linear"]
    code, out, err = run("compare", "--dataset", "pictures", *compare)
    assert code == 0, err
    assert "mlp on pictures" in out
    made = sorted(path.name for path in (folder / "runs").iterdir())
    assert [name[:24] for name in made] == ["compare-mlp-pictures-202", "mlp-own_pictures-load-20"]


def test_a_model_without_a_recipe_says_what_it_used(run):
    # At its own width: of 4 channels on maps of 8 x 8, oneDNN's convolution (torch 2.14, AVX-512)
    # writes past its memory, which a debugging malloc finds with every version of this library.
    own = ["--dataset", "pictures", "--train-images", "4", "--test-images", "2"]
    own += [*QUICK, "--learning-rate", "0.05"]
    code, out, err = run("train", "--model", "resnet20", *own, "--out", "resnet")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if "no recipe of its own" in line]
    assert line == (
        "resnet20 has no recipe of its own; it is trained by that of image models: 2 epochs, "
        "batch 4, learning rate 0.05, weight decay 0.0005"
    )


def test_a_model_that_was_changed_keeps_its_weights(folder, run):
    (folder / "own_networks.py").write_text(
        "from torch import nn\n"
        "from mpnn_arch import models\n"
        "def wider(graph, seed, **settings):\n"
        "    model = models.build('mlp', graph, seed=seed, hidden_features=8, **settings)\n"
        "    model.head = nn.Sequential(nn.Dropout(0.1), model.head)\n"
        "    return model\n"
    )
    train = ["train", "--model", "own_networks:wider", "--dataset", "pictures", *QUICK]
    code, _, err = run(*train, "--out", "study")
    sys.modules.pop("own_networks", None)
    assert code == 0, err
    (weights,) = (folder / "study" / "weights").iterdir()
    tensors, _ = read_tensors(weights, kind="mpnn_arch state 1")
    assert "head.1.weight" in tensors


OWN_MODELS = """
import torch
from mpnn_arch import MessageFunction
from mpnn_arch.training import ImageDataset

value = 3

def raises(graph, **settings):
    return {}["boo"]

def without_settings():
    return torch.nn.Flatten()

def text(graph, **settings):
    return "a model"

def linear(graph, **settings):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

class Broken(MessageFunction):
    def __init__(self, plan, **kwargs):
        super().__init__(plan, **kwargs)
        raise KeyError("boo")

    def forward(self, x_j):
        return x_j

def doubles():
    images, labels = torch.zeros(4, 1, 4, 4, dtype=torch.float64), torch.arange(4) % 2
    return ImageDataset(
        name="doubles", train_images=images, train_labels=labels,
        test_images=images, test_labels=labels, num_classes=2,
    )
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "own_models:raises"], "'own_models:raises' raised KeyError: 'boo' ("),
        (["--model", "own_models:without_settings"], "raised TypeError: without_settings()"),
        (["--model", "own_models:text"], "gives a str; return a nn.Module"),
        (["--model", "own_models:value"], "raised TypeError: 'int' object is not callable"),
        (["--model", "own_models:typo"], "the module 'own_models' has no 'typo'"),
        (["--message", "own_models:Broken"], "'own_models:Broken' raised KeyError: 'boo' ("),
        (["--dataset", "own_models:doubles"], "convert the images with .float()"),
    ],
)
def test_own_code_that_fails_is_refused_before_there_is_a_study(folder, run, arguments, words):
    (folder / "own_models.py").write_text(OWN_MODELS)
    data = [] if "--dataset" in arguments else ["--dataset", "digits"]
    code, _, err = run("train", *arguments, *data, *QUICK, "--out", "out")
    sys.modules.pop("own_models", None)
    assert code == 2, err
    assert words in err
    assert err.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_model_of_ones_own_is_tried_without_a_change_of_the_global_state(folder):
    (folder / "own_models.py").write_text(OWN_MODELS)
    before = torch.get_rng_state()
    Study.create(
        "out",
        StudyConfig(model="own_models:linear", dataset="digits", graphs=("ring:8,2",), seeds=(0,)),
    )
    sys.modules.pop("own_models", None)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_a_model_draws_by_itself_are_those_of_the_seed(folder):
    (folder / "own_models.py").write_text(OWN_MODELS)
    graphs = tuple(f"ring:{nodes},2" for nodes in range(4, 8))  # of which the model takes no notice
    config = StudyConfig(
        model="own_models:linear",
        dataset="digits",
        graphs=graphs,
        seeds=(0, 1),
        training=TrainingConfig(epochs=1),
        train_images=64,
        test_images=64,
    )
    study = Study.create("out", config)
    study.run(workers=0)
    sys.modules.pop("own_models", None)
    losses = study.table().groupby("train_seed")["train_loss"].unique()
    assert [len(of_seed) for of_seed in losses] == [1, 1]
    assert losses[0] != losses[1]
