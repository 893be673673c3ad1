"""Studies by the command line: what is asked, refused, extended, shown, exported, replayed."""

import csv
import dataclasses
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap

import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.cli import asked
from mpnn_arch.cli.sweep import DEFAULTS
from mpnn_arch.graphs import parse_one
from mpnn_arch.studies import unchanged
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.study import Study
from mpnn_arch.training.config import TrainingConfig

from .conftest import rows_of

TINY = (
    "--dataset", "digits", "--train-images", 100, "--test-images", 50, "--width-multiplier", 0.125,
    "--backend", "gather", "--workers", 2, "--threads", 1, "--device", "cpu",
)  # fmt: skip
TWO = ("sweep", *TINY, "-g", "ws_flex:8,4,0.2,0", "-g", "complete:8", "--epochs", 2, "--seeds", 2)
PUBLISHED = [
    "graph", "num_nodes", "density", "rewiring_probability", "graph_seed", "train_seed",
    "first_stage_width", "params_million", "gflops", "top1_error", "top5_error",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(drivers, tmp_path_factory):
    """A study that is done, shared by tests that only read it."""
    folder = tmp_path_factory.mktemp("studies") / "done"
    code, told = drivers.run(*TWO, "--out", folder)
    assert code == 0, told
    assert "complete:8" in told
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copied")


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_study_has_the_permissions_that_the_umask_and_its_folder_give(tmp_path, umask):
    """A group shares a folder by umask 002 and the bit that hands its group on."""
    tmp_path.chmod(0o2777)
    config = StudyConfig(model="mlp", dataset="digits", graphs=("ring:8,2",), seeds=(0,))
    before = os.umask(umask)
    try:
        study = Study.create(tmp_path / "study", config)
    finally:
        os.umask(before)
    for path in (study.path, *study.path.iterdir()):
        expected = 0o2777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == expected & ~umask, path.name
    assert os.listdir(tmp_path) == ["study"]


def test_of_two_that_make_a_study_at_once_the_second_is_told(tmp_path, monkeypatch):
    from mpnn_arch.studies import study as module

    config = StudyConfig(model="mlp", dataset="digits", graphs=("ring:8,2",), seeds=(0,))

    def overtake(point):
        monkeypatch.setattr(module, "crash_point", lambda point: None)
        Study.create(tmp_path / "study", config)

    monkeypatch.setattr(module, "crash_point", overtake)
    with pytest.raises(InputError, match="study exists already; open the study in it"):
        Study.create(tmp_path / "study", config)
    assert Study.open(tmp_path / "study").counts().trials == 1
    assert os.listdir(tmp_path) == ["study"]


def test_the_same_command_again_does_nothing_and_tells_the_table_again(drivers, finished):
    before = rows_of(finished)
    for command in ((*TWO, "--out", finished), ("sweep", "--out", finished)):
        code, told = drivers.run(*command)
        assert code == 0, told
        assert "complete:8" in told
        assert rows_of(finished) == before
    with Ledger(finished / "ledger.sqlite") as ledger:
        assert all(row["attempts"] == 1 for row in ledger.trials())


def test_no_worker_and_no_cluster_is_started_for_a_study_that_is_done(copied, monkeypatch):
    from mpnn_arch.studies.runners import Runner

    def never(*arguments):
        raise AssertionError("started")

    monkeypatch.setattr(Runner, "open", never)
    for runner in (Runner(), Runner(name="ray")):
        assert Study.open(copied).run(runner=runner, device="cpu").done == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", 3], "the recipe's epochs 2, not 3"),
        (["--learning-rate", 0.2], "the recipe's learning_rate 0.1, not 0.2"),
        (["--model", "cnn8"], "model mlp, not cnn8"),
        (["--width-multiplier", 1], "width_multiplier 0.125, not 1"),
        (["--weights", "all"], "weights none, not all"),
        (["--seeds", 3], "would get 1 more seed (2); give --extend"),
        (["-g", "ring:8,2"], "would get 1 more graph (ring:8,2); give --extend"),
        (["--extend", "--epochs", 3], "the recipe's epochs 2, not 3"),
    ],
)
def test_what_differs_is_refused_by_name(drivers, finished, options, words):
    before = (finished / "study.json").read_bytes(), rows_of(finished)
    code, told = drivers.run("sweep", "--out", finished, *options)
    assert code == 2
    assert words in told
    assert "Traceback" not in told
    assert ((finished / "study.json").read_bytes(), rows_of(finished)) == before


def test_an_extension_trains_what_is_new_and_nothing_twice(drivers, finished, copied):
    code, told = drivers.run(
        "sweep", "--out", copied, "--extend", "-g", "ring:8,2", "--seeds", "5,", "--workers", 2
    )
    assert code == 0, told
    # With a third graph there is something to report.
    assert f"report: {copied / 'report' / 'report.html'}" in told
    assert (copied / "report" / "findings.json").exists()
    trials, epochs, _ = rows_of(copied)
    before, epochs_before, _ = rows_of(finished)
    assert len(trials) == 3 * 3
    assert len(before) == 2 * 2
    assert trials[: len(before)] == before
    assert epochs[: len(epochs_before)] == epochs_before
    with Ledger(copied / "ledger.sqlite") as ledger:
        assert all(row["attempts"] == 1 for row in ledger.trials())
    assert Study.open(copied).config.graphs == ("ws_flex:8,4,0.2,0", "complete:8", "ring:8,2")


def test_a_copy_without_its_empty_folders_goes_on(drivers, copied):
    (copied / "checkpoints").rmdir()
    (copied / "weights").rmdir()
    code, told = drivers.run("sweep", "--out", copied, "--extend", "--seeds", 3)
    assert code == 0, told
    assert len(rows_of(copied)[0]) == 6


def test_export_has_the_published_columns_and_one_row_a_trial(drivers, finished, tmp_path):
    code, told = drivers.run("export", finished, "--to", tmp_path / "r.csv")
    assert code == 0, told
    assert "4 rows" in told
    rows = read(tmp_path / "r.csv")
    assert list(rows[0])[: len(PUBLISHED)] == PUBLISHED
    sparse, dense = rows[:2]
    assert {k: sparse[k] for k in PUBLISHED[:6]} == {
        "graph": "ws_flex", "num_nodes": "8", "density": "0.5", "rewiring_probability": "0.2",
        "graph_seed": "0", "train_seed": "0",
    }  # fmt: skip
    assert (dense["graph"], dense["density"], dense["graph_seed"]) == ("complete", "1.0", "1")
    assert dense["first_stage_width"] == "64"
    assert [row["train_seed"] for row in rows] == ["0", "0", "1", "1"]
    assert {row["epoch"] for row in rows} == {"2"}
    with Ledger(finished / "ledger.sqlite") as ledger:
        for row in rows:
            trial = ledger.find_trial(row["trial"])
            assert ledger.find_trial(row["trial_number"]) == trial
            assert float(row["top1_error"]) == trial["test_error"]
            assert float(row["gflops"]) * 1e9 == pytest.approx(trial["multiply_adds"])


def test_all_epochs_and_parquet_hold_the_same_numbers(finished, tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd

    from mpnn_arch.analysis import load_results
    from mpnn_arch.analysis.exact_csv import read_csv
    from mpnn_arch.studies.export import export

    with Study.open(finished).ledger() as ledger:
        for name in ("all.CSV", "all.csv", "all.parquet"):
            assert export(ledger, tmp_path / name, all_epochs=True) == 8
        for name in ("all.xls", ".csv"):
            with pytest.raises(InputError, match=r"give a name such as results.csv"):
                export(ledger, tmp_path / name)
    table = pd.read_parquet(tmp_path / "all.parquet")
    text = read_csv(tmp_path / "all.csv")
    same = ("top1_error", "train_loss", "test_loss", "epoch", "train_seed", "graph_spec")
    for name in (*same, "trial_number", "state"):
        assert table[name].tolist() == text[name].tolist()
    assert table["epoch"].tolist() == [1, 2] * 4
    last = Study.open(finished).table()
    assert last["trial"].tolist() == table[table.epoch == 2]["trial"].tolist()
    assert last["top1_error"].tolist() == table[table.epoch == 2]["top1_error"].tolist()
    # What the analysis reads of both.
    read_both = [load_results(tmp_path / name) for name in ("all.csv", "all.parquet")]
    pd.testing.assert_frame_equal(*read_both)
    (tmp_path / "text.parquet").write_bytes((tmp_path / "all.csv").read_bytes())
    with pytest.raises(InputError, match="no Parquet file of results"):
        load_results(tmp_path / "text.parquet")


def test_the_published_error_stands_beside_ours(drivers, finished, tmp_path):
    data = tmp_path / "data" / "published"
    data.mkdir(parents=True)
    lines = [",".join(PUBLISHED)]
    lines += [f"ws_flex,8,0.5,0.2,0,{seed},9,0,0,{error},0" for seed, error in ((1, 30), (2, 31))]
    (data / "mlp_cifar10_epoch200.csv").write_text("\n".join(lines) + "\n")
    code, told = drivers.run(
        "export", finished, "--to", tmp_path / "r.csv", MPNN_ARCH_DATA=data.parent
    )
    assert code == 0, told
    assert [r["published_top1_error"] for r in read(tmp_path / "r.csv")] == ["30.5", "", "30.5", ""]
    code, told = drivers.run("sweep", "--out", finished, MPNN_ARCH_DATA=data.parent)
    assert "30.50" in told


@pytest.mark.slow
def test_a_report_reads_a_study(drivers, finished, tmp_path):
    out = tmp_path / "report"
    code, text = drivers.run("report", finished, "--out", out)
    assert code == 0, text
    found = json.loads((out / "findings.json").read_text())["done"]
    with Ledger(finished / "ledger.sqlite") as ledger:
        errors = [row["test_error"] for row in ledger.trials() if row["graph"] == "complete:8"]
    assert found["train_seeds"] == 2
    assert found["baseline"]["mean"] == pytest.approx(sum(errors) / 2)
    assert (out / "report.html").exists()


def test_the_closing_report_says_in_a_line_why_there_is_none(
    drivers, finished, copied, monkeypatch
):
    from mpnn_arch.cli import closing_report

    code, told = drivers.run("sweep", "--out", finished)
    assert code == 0
    assert "no report: it compares at least 3 graphs, and 2 are done" in told
    assert "no report" not in drivers.run("sweep", "--out", finished, "--no-report")[1]
    study = Study.open(copied)
    monkeypatch.setattr(closing_report, "FEWEST_GRAPHS", 2)

    def broken(*arguments):
        raise ValueError("it broke")

    monkeypatch.setattr(closing_report, "_write", broken)
    said = closing_report.write_closing_report(study, anew=True)
    command = f"mpnn-arch report {copied} --out {copied / 'report'}"
    assert said == f"no report: it broke; to try again: {command}"
    monkeypatch.setattr(closing_report, "_NEEDED", ("pandas", "a_package_of_nowhere"))
    said = closing_report.write_closing_report(study, anew=True)
    assert 'a_package_of_nowhere is not installed; pip install "mpnn-arch[analysis]"' in said
    page = copied / "report" / "report.html"
    page.parent.mkdir()
    page.touch()
    assert closing_report.write_closing_report(study, anew=False) == f"report: {page}"


def test_a_report_of_a_study_without_an_epoch_is_refused(tmp_path):
    from mpnn_arch import cli

    config = StudyConfig(
        model="mlp", dataset="digits", graphs=("complete:8",), seeds=(0,), train_images=100
    )
    study = Study.create(tmp_path / "study", config)
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(study.path), "--out", str(tmp_path / "report")])
    assert stop.value.code == 2
    assert not (tmp_path / "report").exists()


def test_status_is_a_table_and_json(drivers, finished):
    code, told = drivers.run("status", finished)
    assert code == 0
    assert "8/8" in told
    code, told = drivers.run("status", finished, "--json")
    found = json.loads(told)
    assert (found["done"], found["failed"], found["driver"]) == (4, 0, None)
    code, told = drivers.run("status", finished, "--watch")
    assert code == 0


def test_showing_and_exporting_import_no_torch(finished, tmp_path):
    code = f"""
import sys
from mpnn_arch import cli
for arguments in (["status", {str(finished)!r}], ["export", {str(finished)!r}, "--to", "r.csv"]):
    try:
        cli.main(arguments)
    except SystemExit as stop:
        assert not stop.code
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert len(read(tmp_path / "r.csv")) == 4


def test_a_trial_is_replayed_to_the_same_bits_and_a_difference_is_seen(drivers, copied):
    code, told = drivers.run("replay", copied, 2, "--device", "cpu")
    assert code == 0, told
    assert "all 2 epochs are the same to the bit" in told
    with sqlite3.connect(copied / "ledger.sqlite") as connection:
        connection.execute("UPDATE epoch SET test_loss = test_loss + 1e-12 WHERE trial = 2")
    connection.close()
    code, told = drivers.run("replay", copied, 2, "--device", "cpu")
    assert code == 1
    assert "test_loss" in told


def test_folders_that_are_no_study_are_refused(drivers, finished, tmp_path):
    for command in (["replay", tmp_path, "1"], ["sweep", "--out", tmp_path], ["status", tmp_path]):
        code, told = drivers.run(*command)
        assert code == 2
        assert "not a study" in told
    with pytest.raises(InputError, match="not a study"):
        Study.open(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(InputError, match="not the description of a study"):
        Study.open(tmp_path)
    with pytest.raises(InputError, match=r"exists already; .* or choose another folder"):
        Study.create(finished, Study.open(finished).config)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "mpl"], "did you mean 'mlp'"),
        (["--model", "MLP"], "did you mean 'mlp'"),
        (["--recipe", "mlp_mnist5"], "did you mean 'mlp_mnist5k'"),
        (["--dataset", "mnist"], "digits"),
        (["-g", "galaxy:16"], "galaxy"),
        (["--message", "linera"], "did you mean 'linear'"),
        (["--aggr", "sum,sum"], "repeats sum"),
        (["--epochs", 0], "epochs"),
        (["--weights", "some"], "all, best, none"),
        (["--set", "drop_last=true", "--batch-size", 5000], "fewer than a step needs"),
        (["--keep", 0.7], "--keep is for --race"),
        (["--parallel", "fsdp2"], "start them with torchrun"),
        (["--extend"], "--extend needs --out"),
        (["--model", "nowhere.at_all:make"], "cannot be found"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(drivers, tmp_path, options, words):
    code, told = drivers.run(*TWO, "--out", tmp_path / "new" / "study", *options)
    assert code == 2
    assert words in told
    assert told.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_the_graph_of_a_file_must_stay_what_it_was(drivers, tmp_path):
    file, folder = tmp_path / "ring.csv", tmp_path / "study"
    file.write_text("0,1,1\n1,0,1\n1,1,0\n")
    command = ("sweep", *TINY, "-g", f"file:{file}", "--epochs", 1, "--seeds", 1, "--out", folder)
    assert drivers.run(*command)[0] == 0
    file.write_text("0,1,0\n1,0,1\n0,1,0\n")
    code, told = drivers.run(*command)
    assert code == 2
    assert "is another one than the study was made with" in told
    file.unlink()  # the ledger has the graph
    assert drivers.run("sweep", "--out", folder)[0] == 0
    assert drivers.run("replay", folder, 1, "--device", "cpu")[0] == 0


def test_of_two_commands_that_make_one_study_the_later_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(asked, "is_there", lambda out: False)  # both looked before either made it
    given = {"dataset": "digits", "graphs": ("ring:8,2",), "epochs": 1}
    how = {"resume": False, "extend": False, "trust": False, "data_root": None, "population": None}
    how |= {"out": tmp_path / "study", "device": "cpu"}
    first = asked.find_study(DEFAULTS, given, **how)
    assert asked.find_study(DEFAULTS, given, **how).config == first.config
    with pytest.raises(InputError, match="give --extend to add that, or another --out"):
        asked.find_study(DEFAULTS, {**given, "seeds": "9"}, **how)


def test_graph_files_are_compared_with_the_ledger_at_once(tmp_path, monkeypatch):
    specs = []
    for number in range(6):
        file = tmp_path / f"{number}.edges"
        file.write_text(f"0 1\n1 2\n2 3\n{number % 3} 4\n")
        specs.append(f"file:{file}")
    config = StudyConfig(model="mlp", dataset="digits", graphs=tuple(specs), seeds=(0,))
    study = Study.create(tmp_path / "study", config)
    queries = []
    real = Ledger.query

    def query(ledger, sql, *values):
        queries.extend([sql] * (" trial" in sql))
        return real(ledger, sql, *values)

    monkeypatch.setattr(Ledger, "query", query)
    with study.ledger() as ledger:
        unchanged.check_files(specs, ledger)
        (tmp_path / "0.edges").unlink()
        (tmp_path / "5.edges").unlink()
        kept = unchanged.without_file(specs, ledger)
    assert set(kept) == {specs[0], specs[5]}
    assert kept[specs[5]].content_hash == parse_one(specs[2]).content_hash
    assert len(queries) == 2  # the rows of trials are gone through for all graphs together


def test_an_extension_is_refused_whole_where_the_study_was_edited(tmp_path):
    """Trials of other epochs, or of another graph of that name, would go beside the others."""
    file = tmp_path / "own.edges"
    file.write_text("0 1\n1 2\n2 0\n")
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=(f"file:{file}",),
        seeds=(0,),
        training=TrainingConfig(epochs=2),
    )
    study = Study.create(tmp_path / "study", config)
    more = dataclasses.replace(config, seeds=(1,))
    file.write_text("0 1\n1 2\n")
    with pytest.raises(InputError, match="is another one than the study was made with"):
        study.extend(more)
    file.write_text("0 1\n1 2\n2 0\n")
    about = study.path / "study.json"
    text = about.read_text()
    about.write_text(text.replace('"epochs": 2', '"epochs": 5'))
    longer = dataclasses.replace(more, training=TrainingConfig(epochs=5))
    with pytest.raises(InputError, match="no longer describes the trials of the ledger"):
        study.extend(longer)
    assert study.counts().trials == 1
    about.write_text(text)
    assert study.extend(more) == 1


def test_a_study_is_extended_where_the_file_of_its_graph_is_gone(tmp_path):
    file = tmp_path / "own.edges"
    file.write_text("0 1\n1 2\n2 3\n3 4\n4 5\n5 0\n")
    graphs = (f"file:{file}", f"rewired:0/file:{file}")
    config = StudyConfig(
        model="mlp", dataset="digits", graphs=graphs, seeds=(0,), training=TrainingConfig(epochs=1)
    )
    study = Study.create(tmp_path / "study", config)
    file.rename(tmp_path / "renamed.edges")
    assert study.extend(dataclasses.replace(config, seeds=(1,), graphs=("complete:8",))) == 4
    with study.ledger() as ledger:
        rows = [(row["graph"], row["graph_hash"]) for row in ledger.trials()]
    assert len(set(rows)) == 3  # the graphs are those of the first seed
    missing = dataclasses.replace(config, graphs=(f"file:{tmp_path / 'other.edges'}",))
    with pytest.raises(InputError, match="there is no file"):
        study.extend(missing)


def test_a_folder_of_images_must_stay_what_it_was(drivers, tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    for part in ("train", "test"):
        for place, name in enumerate(("dark", "bright")):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(8):
                image.new("RGB", (8, 8), (100 * place + i,) * 3).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    config = StudyConfig(
        model="mlp", dataset="images", graphs=("complete:8",), seeds=(0,),
        training=TrainingConfig(epochs=1), width_multiplier=0.125, backend="gather",
    )  # fmt: skip
    assert config.dataset == str(tmp_path / "images")
    study = Study.create("study", config)
    image.new("RGB", (8, 8)).save(tmp_path / "images" / "train" / "bright" / "0.png")
    command = ("sweep", "--out", tmp_path / "study", "--workers", 1, "--device", "cpu")
    code, text = drivers.run(*command)
    assert code == 1, text
    assert "is not the one that the study was made with" in text
    code, text = drivers.run(*command, "--extend", "--seeds", 2)
    assert code == 2
    assert "is not the one that the study was made with" in text
    assert study.counts().trials == 1
    image.new("RGB", (8, 8), (100,) * 3).save(tmp_path / "images" / "train" / "bright" / "0.png")
    code, text = drivers.run(*command, "--retry-failed")
    assert code == 0, text


def test_best_weights_are_those_of_the_least_error(drivers, tmp_path):
    folder = tmp_path / "study"
    code, told = drivers.run(*TWO, "--weights", "best", "--out", folder)
    assert code == 0, told
    (kept,) = (folder / "weights").iterdir()
    with Ledger(folder / "ledger.sqlite") as ledger:
        rows = sorted(ledger.trials(), key=lambda row: (row["test_error"], row["id"]))
    assert kept.name.startswith(f"{rows[0]['id']}-")
    mine = {f"{rows[1]['id']}-mine.safetensors", "2nd.safetensors"}
    for name in mine:
        shutil.copy(kept, folder / "weights" / name)
    code, told = drivers.run(*TWO, "--out", folder)
    assert code == 0, told
    assert {path.name for path in (folder / "weights").iterdir()} == {kept.name, *mine}


OURS = """
    import os
    import signal
    import torch
    from pathlib import Path
    from torch import nn
    from mpnn_arch import MessageFunction, models
    from mpnn_arch.rounds.messages import ALL_EDGES, EdgeProduct
    from mpnn_arch.training import load_dataset

    Path(__file__).with_name("imported").touch()


    class Sine(MessageFunction):
        def __init__(self, plan, **kwargs):
            super().__init__(plan, **kwargs)
            self.product = EdgeProduct(plan, self.geometry, **self.factory)

        def forward(self, x_j, x_i, index, edges=ALL_EDGES):
            return self.product(x_j, edges).sin()


    def data():
        return load_dataset("digits").subset(100, 50)


    def make(graph, *, num_classes, in_channels, image_size, seed):
        if seed == 1:
            raise RuntimeError("no such seed")
        if seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        model = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
        if seed == 3:
            nn.init.constant_(model[1].weight, float("nan"))
        return model
"""


@pytest.fixture
def ours(tmp_path):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "of_ours.py").write_text(textwrap.dedent(OURS))
    return folder


def test_trials_that_raise_diverge_or_die_fail_after_three_attempts(drivers, ours, tmp_path):
    folder = tmp_path / "study"
    code, told = drivers.run(
        "sweep", "--model", "of_ours:make", "--dataset", "of_ours:data", "-g", "complete:8",
        "--epochs", 2, "--seeds", 5, "--workers", 2, "--device", "cpu", "--out", folder,
        MODULES=ours, XDG_CONFIG_HOME=tmp_path,
    )  # fmt: skip
    assert code == 1, told
    assert "3 of 5 trials failed" in told
    with Ledger(folder / "ledger.sqlite") as ledger:
        rows = {row["seed"]: row for row in ledger.trials()}
        details = [row["detail"] for row in ledger.query("SELECT * FROM attempt WHERE trial = 2")]
    assert [rows[seed]["state"] for seed in range(5)] == [
        "done", "failed", "failed", "failed", "done",
    ]  # fmt: skip
    assert rows[1]["reason"] == "RuntimeError: no such seed"
    assert "killed (signal 9)" in rows[2]["reason"]
    assert "training loss became nan" in rows[3]["reason"]
    assert all(rows[seed]["attempts"] == 3 for seed in (1, 2, 3))
    assert len(details) == 3
    assert "in make" in details[0]
    code, told = drivers.run("status", folder)
    assert "RuntimeError: no such seed" in told


def test_code_of_ours_runs_and_that_of_others_asks_for_trust(drivers, ours, tmp_path):
    folder, imported = tmp_path / "study", ours / "imported"
    command = (
        "sweep", *TINY, "-g", "ring:8,2", "--epochs", 1, "--seeds", 1, "--message",
        "of_ours:Sine,linear", "--backend", "reference", "--out", folder,
    )  # fmt: skip
    mine = {"MODULES": ours, "XDG_CONFIG_HOME": tmp_path / "mine"}
    code, told = drivers.run(*command, **mine)
    assert code == 0, told
    assert "of_ours:Sine" in told
    assert imported.exists()
    imported.unlink()

    somebody = {"MODULES": ours, "XDG_CONFIG_HOME": tmp_path / "somebody"}
    for arguments in (
        ("status", folder), ("export", folder, "--to", tmp_path / "r.csv"),
    ):  # fmt: skip
        assert drivers.run(*arguments, **somebody)[0] == 0
    for arguments in (
        ("sweep", "--out", folder), ("replay", folder, 1),
        ("sweep", "--out", folder, "--extend", "--seeds", 2),
    ):  # fmt: skip
        code, told = drivers.run(*arguments, **somebody)
        assert code == 2
        assert "give --trust" in told
    assert not imported.exists()
    code, told = drivers.run("replay", folder, 1, "--trust", "--device", "cpu", **somebody)
    assert code == 0, told
    assert imported.exists()

    file = ours / "of_ours.py"
    file.write_text(file.read_text() + "\n# changed\n")
    code, told = drivers.run("replay", folder, 1, "--device", "cpu", **mine)
    assert code == 2
    assert "was changed since the study was made" in told


def test_a_path_that_was_smuggled_into_the_description_asks_for_trust(drivers, ours, copied):
    about = json.loads((copied / "study.json").read_text())
    about["config"]["messages"] = ["of_ours:Sine"]
    about["trials"] += 1
    (copied / "study.json").write_text(json.dumps(about))
    code, told = drivers.run("sweep", "--out", copied, MODULES=ours)
    assert code == 2
    assert "give --trust" in told
    assert not (ours / "imported").exists()


def test_a_path_that_was_smuggled_into_the_ledger_asks_for_trust(drivers, ours, copied, tmp_path):
    with sqlite3.connect(copied / "ledger.sqlite") as connection:
        spec = json.loads(connection.execute("SELECT spec FROM trial WHERE id = 1").fetchone()[0])
        spec |= {"message": "of_ours:Sine", "sources": [["of_ours:Sine", "0" * 64]]}
        connection.execute(
            "UPDATE trial SET state = 'queued', spec = ? WHERE id = 1",
            (json.dumps(spec, sort_keys=True, separators=(",", ":")),),
        )
    connection.close()
    code, told = drivers.run("sweep", "--out", copied, MODULES=ours)
    assert code == 2
    assert "give --trust" in told
    assert not (ours / "imported").exists()


@pytest.mark.slow
def test_the_same_in_python_with_workers_of_a_fresh_interpreter(tmp_path, monkeypatch):
    """What the other tests fork is started here as a user starts it."""
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("complete:8",),
        seeds=(0, 1),
        training=TrainingConfig(epochs=2),
        train_images=100,
        test_images=50,
        width_multiplier=0.125,
        backend="gather",
    )
    events = []
    study = Study.create(tmp_path / "study", config)
    counts = study.run(workers=2, threads=1, device="cpu", watch=events.append)
    assert (counts.done, counts.trials) == (2, 2)
    assert [e["is"] for e in events].count("epoch") == 4
    assert [e["is"] for e in events].count("done") == 2
    with pytest.raises(InputError, match="threads is an integer of at least 1"):
        study.run(threads=0)
    assert len(study.table()) == 2


def test_signals_are_fed_to_models_that_take_them(tmp_path, monkeypatch):
    from mpnn_arch.training import data as data_module

    draw = torch.Generator().manual_seed(0)

    def signals(_):
        return data_module.ImageDataset(
            name="signals",
            train_images=torch.randn(40, 1, 1, 12, generator=draw),
            train_labels=torch.arange(40) % 3,
            test_images=torch.randn(9, 1, 1, 12, generator=draw),
            test_labels=torch.arange(9) % 3,
            num_classes=3,
        )

    monkeypatch.setitem(data_module.DATASETS._entries, "signals", signals)
    config = StudyConfig(
        model="mlp", dataset="signals", graphs=("ring:8,2",), seeds=(0,), width_multiplier=0.25
    )
    assert Study.create(tmp_path / "study", config).counts().trials == 1
    with pytest.raises(InputError, match="resnet20 takes square ones"):
        Study.create(tmp_path / "other", dataclasses.replace(config, model="resnet20"))
