"""Run directories of 0.1.0: read as they are, or made a study; see also the attacks on them."""

import csv
import json
import shutil

import pytest

from mpnn_arch import InputError
from mpnn_arch.analysis.results import load_results
from mpnn_arch.studies.adoption import adopt
from mpnn_arch.studies.metrics import MetricsRow, read_metrics, write_metrics
from mpnn_arch.studies.reading import open_ledger
from mpnn_arch.studies.run_directory import RunDirectory
from mpnn_arch.studies.study import Study
from mpnn_arch.training.config import RunConfig, TrainingConfig

from ..old_runs import write_run
from .conftest import made_up_metrics

CONFIG = RunConfig(
    model="mlp",
    dataset="digits",
    graphs=("ring:8", "complete:8"),
    seeds=(0, 1),
    training=TrainingConfig(epochs=2),
    train_images=100,
    test_images=50,
    backend="gather",
    width_multiplier=0.125,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "finished", CONFIG, data_hash=True)
    write_run(folder / "stopped", CONFIG, epochs=3)
    return folder


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(folder):
    return sorted(path.read_bytes() for path in (folder / "weights").iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"run": {"model": 1}, "graph_hashes": []}'])
def test_an_invalid_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError):
        RunDirectory.open(tmp_path)
    with pytest.raises(InputError, match="not a run directory"):
        RunDirectory.open(tmp_path / "nothing")


def test_status_and_export_read_it_as_it_is(runs, tmp_path, run):
    for name, done, epochs in (("finished", 4, 8), ("stopped", 1, 3)):
        before = files(runs / name)
        code, out, err = run("status", runs / name, "--json")
        assert code == 0, err
        found = json.loads(out)
        assert (found["trials"], found["done"], found["epochs_done"]) == (4, done, epochs)
        table = tmp_path / f"{name}.csv"
        code, _, err = run("export", runs / name, "--to", table, "--all-epochs")
        assert code == 0, err
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["train_seed"], row["epoch"], float(row["top1_error"])) for row in rows] == [
            (str(row.seed), str(row.epoch), row.test_error)
            for row in RunDirectory.open(runs / name).read_metrics()
        ]
        assert files(runs / name) == before
    with table.open(newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"mlp"}


def test_a_report_reads_its_metrics(runs):
    assert len(load_results(runs / "finished")) == 8


@pytest.mark.parametrize("command", [["train"], ["sweep"], ["replay", "1"]])
def test_without_resume_it_is_refused_with_what_to_do(runs, run, command):
    before = files(runs / "stopped")
    name, *more = command
    where = [runs / "stopped", *more] if name == "replay" else ["--out", runs / "stopped"]
    code, _, err = run(name, *where)
    assert code == 2
    assert f"mpnn-arch train --out {runs / 'stopped'} --resume" in err
    assert files(runs / "stopped") == before


@pytest.mark.parametrize("name", ["finished", "stopped"])
def test_resuming_makes_it_a_study_and_goes_on_to_the_same_bits(runs, tmp_path, run, name):
    out = tmp_path / "run"
    shutil.copytree(runs / name, out)
    code, text, err = run("train", "--resume", "--out", out, "--device", "cpu")
    assert code == 0, err
    assert "complete:8" in text
    study = Study.open(out)
    assert study.command == "train"
    assert study.counts().done == 4
    expected = RunDirectory.open(runs / "finished")
    with study.ledger() as ledger:
        rows = list(read_metrics(ledger))
        attempts = [row["attempts"] for row in ledger.trials()]
    assert attempts == {"finished": [1, 1, 1, 1], "stopped": [1, 2, 1, 1]}[name]
    assert [row.test_loss for row in rows] == [row.test_loss for row in expected.read_metrics()]
    trained = [
        sorted(p.read_bytes() for p in (f / "weights").iterdir()) for f in (out, runs / "finished")
    ]
    assert trained[0] == trained[1]
    assert not list((out / "checkpoints").iterdir())
    for which in ("1", "2"):
        code, text, err = run("replay", out, which, "--device", "cpu")
        assert (code, "the same to the bit" in text) == (0, True), err


def test_an_adoption_that_was_stopped_is_done_again(runs, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(runs / "stopped", out)

    def stop(self, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Study, "describe", stop)
        with pytest.raises(KeyboardInterrupt):
            adopt(out, device="cpu")
    assert not (out / "study.json").exists()
    study = adopt(out, device="cpu")
    assert study.run(workers=0, device="cpu").done == 4
    assert len(list((out / "weights").iterdir())) == 4


def test_images_that_changed_are_refused(runs, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(runs / "finished", out)
    content = json.loads((out / "config.json").read_text())
    content["data_hash"] = "0" * 64
    (out / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="was started on other images"):
        adopt(out, device="cpu")


def test_metrics_csv_holds_the_bits_of_the_ledger(new_ledger, tmp_path):
    with new_ledger.transaction():
        (row,) = new_ledger.lease("worker")
        for epoch, error in ((1, 100 / 7), (2, 1e-17), (3, float("nan"))):
            metrics = made_up_metrics(epoch, error)
            new_ledger.record_epoch(row["id"], row["lease"], metrics, wall=1.0)
    write_metrics(new_ledger, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        read = [float(row["test_error"]) for row in csv.DictReader(file)]
    assert read[:2] == [100 / 7, 1e-17]
    assert read[2] != read[2]
    assert isinstance(next(read_metrics(new_ledger)), MetricsRow)


def test_a_study_is_read_as_one(tmp_path, new_ledger):
    with pytest.raises(InputError, match="is not a study"), open_ledger(tmp_path):
        pass
