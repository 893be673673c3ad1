"""Every image model trains from the command line."""

import csv

import pytest

from mpnn_arch import models

# Cost grows with the square of the width: the same layers, rounds and strides, faster. These models
# are narrow already; every stage needs a channel for every node.
WIDTH = {"resnet20": 0.5, "efficientnet_b0": 0.5}


@pytest.mark.parametrize("name", [name for name in models.list_models() if name != "mlp"])
def test_twenty_steps_on_mnist5k_lower_the_loss(name, tmp_path, run):
    code, _, err = run(
        "train", "--model", name, "--dataset", "mnist5k", "--graph", "ring:4",
        "--width-multiplier", WIDTH.get(name, 0.125), "--train-images", 80, "--test-images", 20,
        "--batch-size", 8, "--epochs", 2, "--seeds", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        first, second = (float(row["train_loss"]) for row in csv.DictReader(file))
    assert second < first
