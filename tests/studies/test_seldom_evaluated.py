"""A study whose recipe evaluates only some epochs: its ledger, and all that reads it."""

import csv
import json
import math

import pytest

from mpnn_arch import InputError
from mpnn_arch.analysis import load_results
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.study import Study
from mpnn_arch.training.config import TrainingConfig

EVALUATED = [3, 4]  # of four epochs, every third and the last


@pytest.fixture(scope="module")
def folder(drivers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seldom")
    code, told = drivers.run(
        "train", "--dataset", "digits", "--train-images", "100", "--test-images", "50",
        "--graphs", "ring:8,2", "--graphs", "complete:8", "--width-multiplier", "0.125",
        "--seeds", "2", "--epochs", "4", "--set", "evaluate_every=3", "--out", folder / "study",
        "--log-json", folder / "log.jsonl", "--tensorboard", folder / "board",
    )  # fmt: skip
    assert code == 0, told
    return folder


def test_the_ledger_has_every_epoch_and_the_errors_that_are_known(folder):
    with Study.open(folder / "study").ledger() as ledger:
        for trial in ledger.trials():
            epochs = ledger.epochs(trial["id"])
            assert [e["epoch"] for e in epochs if e["test_error"] is not None] == EVALUATED
            assert all(e["train_loss"] > 0 for e in epochs)
            assert trial["test_error"] == epochs[-1]["test_error"]


def test_what_is_written_has_no_made_up_number(folder):
    with open(folder / "study" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    known = [int(row["epoch"]) for row in rows if not math.isnan(float(row["test_error"]))]
    assert known == EVALUATED * 4
    assert (folder / "study" / "curves.png").stat().st_size > 1000
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    logged = [line["epoch"] for line in lines if line.get("test_error") is not None]
    assert logged == EVALUATED * 4
    results = load_results(folder / "study")
    assert sorted(results["epoch"].unique()) == EVALUATED
    assert len(results) == 4 * len(EVALUATED)


def test_it_is_replayed_to_the_same_bits(drivers, folder):
    code, told = drivers.run("replay", folder / "study", "1", "--device", "cpu")
    assert code == 0, told
    assert "epoch 1: not evaluated, the same bits" in told
    assert "nan" not in told
    assert "epoch 4: test error" in told


def test_a_race_needs_the_error_at_its_rungs():
    values = {"model": "mlp", "dataset": "digits", "graphs": ("ring:8,2",), "seeds": (0,)}
    recipe = TrainingConfig(epochs=9, evaluate_every=3)
    StudyConfig(**values, training=recipe, race=(3, 6))
    with pytest.raises(InputError, match="race at epoch 4 needs its test error"):
        StudyConfig(**values, training=recipe, race=(3, 4))
