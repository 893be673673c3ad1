"""mpnn-arch compare and mpnn-arch gnn: a table, its files, and errors without a traceback."""

import csv
import json

import pytest

from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.step_times import StepTime, step_times
from mpnn_arch.studies.study import Study
from mpnn_arch.training.config import TrainingConfig

SMALL = [
    "compare", "--dataset", "digits", "--graph", "ring:8,2", "--epochs", "2", "--train-images",
    "200", "--test-images", "50", "--width-multiplier", "0.125", "--backend", "reference",
    "--aggr", "sum,mean+max", "--message", "linear,low_rank", "--seeds", "2",
]  # fmt: skip
PAIRS = [("linear", "sum"), ("linear", "mean+max"), ("low_rank", "sum"), ("low_rank", "mean+max")]


def table(folder):
    with open(folder / "compare.csv") as file:
        return list(csv.DictReader(file))


def results(folder):
    """All of the table that is not a time."""
    return [{k: v for k, v in row.items() if "step_ratio" not in k} for row in table(folder)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from mpnn_arch import cli

    out = tmp_path_factory.mktemp("compared") / "whole"
    with pytest.raises(SystemExit) as stop:
        cli.main([*SMALL, "--out", str(out)])
    assert not stop.value.code
    return out


def test_compare_saves_a_table_a_plot_and_a_ledger(finished):
    rows = table(finished)
    assert [(r["message"], r["aggr"]) for r in rows] == PAIRS
    costs = [int(r["multiply_adds"]) for r in rows]
    assert max(costs) < 1.3 * min(costs)
    assert {r["backend"] for r in rows} == {"fused", "messages"}
    assert (finished / "compare.png").stat().st_size > 1000
    with Study.open(finished).ledger() as ledger:
        done = [(row["message"], row["aggr"], row["seed"]) for row in ledger.trials("done")]
    assert sorted(done) == sorted((*pair, seed) for pair in PAIRS for seed in (0, 1))


def test_the_baseline_is_as_fast_as_itself_by_definition(finished, run):
    baseline, *others = table(finished)
    assert (float(baseline["step_ratio"]), float(baseline["step_ratio_spread"])) == (1.0, 0.0)
    assert all(float(row["step_ratio"]) > 0 for row in others)
    code, out, _ = run("compare", "--out", finished)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("linear") and " sum " in line]
    assert line.rstrip().endswith("1.00 x ± 0%")


def test_the_same_command_again_trains_and_times_nothing(finished, run, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("timed again")

    monkeypatch.setattr("mpnn_arch.studies.step_times.interleaved", never)
    before = table(finished)
    for again in (SMALL, ["compare", "--resume"]):
        code, out, err = run(*again, "--out", finished)
        assert code == 0, err
        assert "mean+max" in out
        assert table(finished) == before


def test_a_comparison_that_was_interrupted_continues_to_the_same_numbers(
    finished, tmp_path, monkeypatch, run
):
    from mpnn_arch.training.trainer import Trainer

    real, done = Trainer.train_epoch, []

    def train_epoch(self):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(1)
        return real(self)

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", train_epoch)
        code, _, err = run(*SMALL, "--out", out)
    assert code == 130
    assert f"mpnn-arch compare --out {out} --resume" in err
    assert Study.open(out).counts().epochs_done == 5
    code, _, err = run("compare", "--out", out, "--resume")
    assert code == 0, err
    assert results(out) == results(finished)


def test_it_takes_what_train_takes(finished, tmp_path, run):
    out = tmp_path / "two"
    code, told, err = run(
        "compare", "--recipe", "mlp_mnist1d", "--dataset", "digits", "--train-images", "100",
        "--test-images", "20", "--epochs", "1", "--width-multiplier", "0.125", "--set",
        "label_smoothing=0.1", "--backend", "reference", "--batch-size", "50",
        "--learning-rate", "0.05", "--init", "kaiming",
        "--graphs", "ring:8,2", "--graphs", "complete:8", "--message", "linear", "--aggr", "max",
        "--seeds", "3,", "--weights", "all", "--device", "cpu", "--threads", "1", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    assert [(row["graph"], row["aggr"]) for row in table(out)] == [
        ("ring:8,2", "max"), ("complete:8", "max"),
    ]  # fmt: skip
    assert "ring:8,2" in told
    assert len(list((out / "weights").iterdir())) == 2
    config = Study.open(out).config
    assert (config.training.label_smoothing, config.init, config.seeds) == (0.1, "kaiming", (3,))


def test_the_other_commands_read_the_folder(finished, tmp_path, run):
    code, out, _ = run("status", finished, "--json")
    assert (code, json.loads(out)["done"]) == (0, 8)
    assert run("export", finished, "--out", tmp_path / "all.csv")[0] == 0
    with (tmp_path / "all.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    code, out, err = run("replay", finished, "4", "--device", "cpu")
    assert (code, "same to the bit" in out) == (0, True), err


def test_members_of_a_population_are_timed_alone(tmp_path):
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("ring:8,2", "complete:8"),
        seeds=(0,),
        messages=("linear",),
        training=TrainingConfig(epochs=1),
        width_multiplier=0.125,
        train_images=100,
    )
    study = Study.create(tmp_path / "study", config)
    assert study.run(workers=0, population=2).done == 2
    assert [one.ratio for one in step_times(study)] == [1, 1]


def test_times_that_are_damaged_are_one_sentence(finished, tmp_path, run):
    import shutil

    out = tmp_path / "copied"
    shutil.copytree(finished, out)
    (out / "step_times.json").write_text('{"steps": [{"graph": 1}]}')
    code, _, err = run("compare", "--out", out)
    assert code == 2
    assert "delete it, and they are measured again" in err
    (out / "step_times.json").unlink()
    timed = step_times(Study.open(out))
    assert [(t.message, t.aggr) for t in timed] == PAIRS
    assert all(isinstance(t, StepTime) and t.ratio > 0 for t in timed)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "--aggr", "sum,sum"], "repeats sum"),
        (["compare", "--dataset", "digits", "--message", "linera"], "did you mean 'linear'"),
        (["compare", "--dataset", "digits", "--aggr", "sofmax"], "there is no aggregation"),
        (["compare", "--seeds", "0"], "--seeds '0' is neither a number of seeds"),
        (["compare", "--model", "mine:make"], "is a function of yours"),
        (["gnn", "--model", "gnc"], "there is no GNN layer 'gnc'"),
    ],
)
def test_bad_names_get_one_sentence(tmp_path, monkeypatch, run, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
