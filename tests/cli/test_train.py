import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import mpnn_arch
from mpnn_arch import cli, graphs
from mpnn_arch.io.lock import FolderLock
from mpnn_arch.studies.published import published_errors
from mpnn_arch.studies.study import Study

# Two graphs of 16 nodes, two seeds: a second or two on a small set.
SMALL = [
    "train", "--dataset", "digits", "--graph", "ws_flex:16,4,0.2,0", "--graph", "complete:16",
    "--seeds", "2", "--epochs", "2", "--train-images", "300", "--test-images", "100",
    "--width-multiplier", "0.125", "--backend", "gather",
]  # fmt: skip


def untimed(path):
    with (path / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def weights(path):
    """The bytes of every trained tensor."""
    return {
        (file.name, name): value.numpy().tobytes()
        for file in (path / "weights").iterdir()
        for name, value in load_file(file).items()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run from start to end, shared by tests that only read it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.raises(SystemExit) as stop:
        cli.main([*SMALL, "--out", str(out)])
    assert stop.value.code == 0
    return out


def test_the_default_graph_lies_in_the_sweet_spot():
    from mpnn_arch.training.recipes import default_graphs

    own, dense = default_graphs("mlp")
    assert dense == "complete:64"
    (graph,) = graphs.parse(own)
    assert graph.num_nodes == 64
    assert 0.43 <= graph.clustering_coefficient <= 0.50
    assert 1.82 <= graph.average_path_length <= 2.28


def test_a_run_directory_holds_everything(finished):
    # A reader of the ledger leaves the two files that SQLite shares among processes.
    shared = {"ledger.sqlite-wal", "ledger.sqlite-shm"}
    names = {file.name for file in finished.iterdir()} - shared
    assert names == {
        "study.json", "ledger.sqlite", "metrics.csv", "results.csv", "results.json", "curves.png",
        "weights", "checkpoints",
    }  # fmt: skip
    assert not list((finished / "checkpoints").iterdir())
    assert len(list((finished / "weights").iterdir())) == 4
    rows = untimed(finished)
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        assert 0 <= float(row["test_error"]) <= 100
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((finished / "results.json").read_text())
    last = [float(r["test_error"]) for r in rows if r["epoch"] == "2"]
    for result in results:
        errors = [e for r, e in zip(rows[1::2], last, strict=True) if r["graph"] == result["graph"]]
        assert result["test_error_mean"] == pytest.approx(sum(errors) / 2)
    sparse, dense = results
    assert dense["widths"] == "64"
    assert dense["clustering_coefficient"] == 1
    # Equal cost: the smallest width whose multiply-adds are at least the complete graph's.
    assert 0 <= sparse["multiply_adds"] - dense["multiply_adds"] < 0.05 * dense["multiply_adds"]


def test_the_weights_are_a_model_with_its_graph(finished):
    from mpnn_arch.training.data import load_dataset

    data = load_dataset("digits").subset(300, 100)
    rows = {(r["graph"], r["seed"]): r for r in untimed(finished) if r["epoch"] == "2"}
    for name, graph in (("3-ws_flex-16-4-0.2-0-sum-seed1", "ws_flex:16,4,0.2,0"),):
        model = mpnn_arch.load(finished / "weights" / f"{name}.safetensors").eval()
        assert model.graphs[0] == graphs.parse(graph)[0]
        wrong = (model(data.test_images).argmax(1) != data.test_labels).sum().item()
        assert wrong == float(rows[graph, "1"]["test_error"])


def test_the_same_command_again_trains_nothing_and_prints_the_table_again(finished, run):
    before = weights(finished), untimed(finished)
    for again in (SMALL, ["train", "--resume"], ["train", "--workers", "1"]):
        code, out, err = run(*again, "--out", str(finished))
        assert code == 0, err
        assert "complete:16" in out
        assert (weights(finished), untimed(finished)) == before
    with Study.open(finished).ledger() as ledger:
        assert all(row["attempts"] == 1 for row in ledger.trials())


def test_the_second_process_is_told_who_the_first_is(finished, run):
    before = untimed(finished)
    with FolderLock(finished / "lock", "it"):
        code, _, err = run(*SMALL, "--out", str(finished))
    assert code == 2
    assert f"is being written by process {os.getpid()}" in err
    assert untimed(finished) == before


def test_a_folder_that_is_no_study_is_refused_and_left_alone(tmp_path, run):
    (tmp_path / "mine.txt").write_text("precious")
    code, _, err = run(*SMALL, "--out", str(tmp_path))
    assert code == 2
    assert "is not a study" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_other_commands_read_the_folder(finished, tmp_path, run):
    code, out, _ = run("status", finished, "--json")
    assert (code, json.loads(out)["done"]) == (0, 4)
    assert run("export", finished, "--to", tmp_path / "all.csv", "--all-epochs")[0] == 0
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["top1_error"] for row in rows] == [row["test_error"] for row in untimed(finished)]
    code, out, err = run("replay", finished, "2", "--device", "cpu")
    assert (code, "all 2 epochs are the same to the bit" in out) == (0, True), err
    code, _, err = run("report", finished, "--out", tmp_path / "report")
    assert code == 0, err
    assert (tmp_path / "report" / "report.html").exists()


def test_the_published_error_of_the_same_graph_stands_beside_ours(
    finished, tmp_path, monkeypatch, run
):
    header = "graph,num_nodes,density,rewiring_probability,graph_seed,train_seed,top1_error\n"
    row = "ws_flex,16,0.25,0.2,0,{},{}\n"
    text = header + row.format(1, 33.0) + row.format(2, 34.0)
    (tmp_path / "mlp_cifar10_epoch200.csv").write_text(text)
    monkeypatch.setenv("MPNN_ARCH_DATA", str(tmp_path))
    published_errors.cache_clear()
    try:
        code, out, _ = run(*SMALL, "--out", str(finished))
    finally:
        published_errors.cache_clear()
    assert code == 0
    assert "published," in out
    assert "CIFAR-10" in out  # and not the data set of this study
    assert "33.50" in out
    ours, dense = json.loads((finished / "results.json").read_text())
    assert (ours["published_test_error"], dense["published_test_error"]) == (33.5, None)


def interrupted(monkeypatch, out, epochs_done):
    """Start the small run and raise KeyboardInterrupt after so many epochs."""
    from mpnn_arch.training.trainer import Trainer

    real, done = Trainer.train_epoch, []

    def train_epoch(self):
        if len(done) == epochs_done:
            raise KeyboardInterrupt
        done.append(1)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", train_epoch)
        with pytest.raises(SystemExit) as stop:
            cli.main([*SMALL, "--out", str(out)])
    return stop.value.code


@pytest.mark.parametrize("epochs_done", [0, 1, 2, 5])
def test_an_interrupted_run_continues_to_the_same_bits(
    finished, tmp_path, monkeypatch, run, capsys, epochs_done
):
    out = tmp_path / "stopped"
    assert interrupted(monkeypatch, out, epochs_done) == 130
    assert f"--out {out} --resume" in capsys.readouterr().err
    assert run(*SMALL, "--out", str(out), "--resume")[0] == 0
    assert untimed(out) == untimed(finished)
    assert weights(out) == weights(finished)
    shared = {"ledger.sqlite-wal", "ledger.sqlite-shm"}
    names = [{file.name for file in folder.iterdir()} - shared for folder in (out, finished)]
    assert names[0] == names[1]


def test_a_real_interrupt_leaves_a_directory_that_can_be_continued(tmp_path, run):
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "mpnn_arch", *SMALL, "--epochs", "2000", "--out", str(out)]
    started = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Background jobs of a shell ignore SIGINT; restore the default.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 120
        while not begun(out) and time.monotonic() < until:
            assert started.poll() is None, started.communicate()
            time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert "Traceback" not in err
    assert "--resume" in err
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    assert Study.open(out).counts().epochs_done


def begun(out):
    return (out / "study.json").exists() and Study.open(out).counts().epochs_done > 1


def test_a_checkpoint_that_is_damaged_or_of_another_training_is_trained_again(
    finished, tmp_path, monkeypatch, run
):
    out = tmp_path / "stopped"
    interrupted(monkeypatch, out, 1)
    (file,) = (out / "checkpoints").glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    code, _, err = run("train", "--resume", "--out", str(out))
    assert code == 0, err
    assert "cut short" in err
    assert untimed(out) == untimed(finished)
    assert weights(out) == weights(finished)

    other = tmp_path / "other"
    interrupted(monkeypatch, other, 3)
    (mine,) = (other / "checkpoints").glob("*.safetensors")
    mine.write_bytes(whole)
    code, _, err = run("train", "--resume", "--out", str(other))
    assert code == 0, err
    assert "belongs to another run" in err
    assert weights(other) == weights(finished)


def test_a_training_goes_on_only_where_its_bits_stay_the_same(tmp_path, monkeypatch, run):
    out = tmp_path / "stopped"
    interrupted(monkeypatch, out, 1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "1.0")
        code, _, err = run("train", "--resume", "--out", str(out))
    assert code == 2
    assert "was started with torch" in err
    assert "checkpoints to train what was begun again" in err
    assert err.splitlines()[-1].count("mpnn-arch:") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "mpl"], "mlp"),
        (["--dataset", "mnist"], "cifar10, digits, imagenet, mnist1d, mnist5k"),
        (["--recipe", "mlp_cifar"], "did you mean 'mlp_cifar10'"),
        (["--recipe", "resnet20_cifar10", "--model", "mlp"], "is for resnet20, not mlp"),
        (["--set", "flip"], "--set 'flip' gives no value: it has no =; write NAME=VALUE"),
        (["--set", "=1"], "--set '=1' gives no name before the ="),
        (["--set", "flips=true"], "no field 'flips' (did you mean 'flip'?)"),
        (["--set", "flip=true", "--set", "flip=no"], "gives flip twice, 'true' and 'no'; leave"),
        (["--init", "kaimin"], "did you mean 'kaiming'?"),
        (["--backend", "gahter"], "did you mean 'gather'?"),
        (["--aggr", ","], "--aggr ',' is empty"),
        (["--aggr", "sum,max,sum"], "--aggr 'sum,max,sum' repeats sum"),
        (["--graph", "rnig:8,2"], "not a graph spec (did you mean 'ring'?)"),
        (["--set", "epochs=5"], "contradict"),
        (["--set", "label_smoothing=2"], "label_smoothing"),
        (["--graph", "galaxy:16"], "galaxy"),
        (["--graph", "complete:16"], "twice"),
        (["--graph", "complete:600"], "600 nodes"),
        (["--seeds", "two"], "--seeds 'two'"),
        (["--seeds", "0"], "--seeds '0'"),
        (["--seeds", "1,1"], "twice"),
        (["--epochs", "0"], "epochs"),
        (["--batch-size", "1"], "batch_size"),
        (["--learning-rate", "0"], "learning_rate"),
        (["--train-images", "100000"], "1 to 1442"),
        (["--device", "abacus"], "choose auto, cpu"),
        (["--data-root", __file__], "is a file; give the folder"),
        (["--population", "2"], "population 2 trains side by side mlp models of one seed"),
        (["--runner", "ray", "--device", "cuda:0"], "takes the device cpu or cuda"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, run, arguments, words):
    out = tmp_path / "new" / "run"
    code, _, err = run(*SMALL, *arguments, "--out", str(out))
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_resuming_needs_a_run_and_its_own_settings(finished, tmp_path, run):
    code, _, err = run("train", "--resume")
    assert (code, "--out" in err) == (2, True)
    code, _, err = run("train", "--resume", "--out", str(tmp_path))
    assert (code, "not a study" in err) == (2, True)
    for arguments, words in (
        (["--epochs", "3"], "made with the recipe's epochs 2, not 3"),
        (["--seeds", "3"], "would get 1 more seed (2)"),
        (["--graph", "ring:16"], "would get 1 more graph (ring:16)"),
        (["--message", "gated"], "would get 1 more message (gated)"),
    ):
        code, _, err = run("train", "--resume", "--out", str(finished), *arguments)
        assert code == 2
        assert words in err


def test_an_extension_trains_what_is_new(finished, tmp_path, run):
    out = tmp_path / "more"
    shutil.copytree(finished, out)
    before = weights(out)
    code, told, err = run(*SMALL, "--extend", "--seeds", "5,", "--out", str(out))
    assert code == 0, err
    assert weights(out).items() > before.items()
    assert len(untimed(out)) == 3 * 2 * 2
    assert "ws_flex:16" in told


@pytest.mark.parametrize(("choice", "kept"), [("best", 1), ("none", 0)])
def test_weights_are_kept_by_choice(tmp_path, run, choice, kept):
    out = tmp_path / choice
    assert run(*SMALL, "--epochs", "1", "--weights", choice, "--out", str(out))[0] == 0
    assert len(list((out / "weights").iterdir())) == kept


def test_worker_processes_train_the_same(finished, tmp_path, run):
    out = tmp_path / "workers"
    threads = str(torch.get_num_threads())
    code, _, err = run(*SMALL, "--workers", "1", "--threads", threads, "--out", str(out))
    assert code == 0, err
    assert untimed(out) == untimed(finished)
    assert weights(out) == weights(finished)


def test_a_loss_that_diverges_is_told_with_its_reason(tmp_path, run):
    code, out, _ = run(*SMALL, "--learning-rate", "1e30", "--seeds", "1", "--out", tmp_path / "x")
    assert code == 1
    assert "2 of 2 trials failed" in out
    assert "lower the learning rate" in out


def test_the_default_directory_is_named_after_the_run(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(*SMALL, "--epochs", "1", "--seeds", "4,")
    assert code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mlp-digits-20")
    assert str(folder.relative_to(tmp_path)) in out
    assert Study.open(folder).config.seeds == (4,)


def test_two_runs_that_begin_in_one_second_have_a_folder_each(tmp_path, monkeypatch, run):
    from mpnn_arch.cli import asked

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asked.time, "strftime", lambda form: "20260101-000000")
    for ending in ("", "-2", "-3"):
        code, out, err = run(*SMALL, "--seeds", "1", "--epochs", "1")
        assert code == 0, err
        assert out.rstrip().endswith(f"study: runs/mlp-digits-20260101-000000{ending}")


def test_an_error_in_a_default_folder_says_how_to_go_on(tmp_path, monkeypatch, run):
    """The same command again would begin another study."""

    def fail(self, **how):
        raise mpnn_arch.InputError("no room")

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "run", fail)
        code, _, err = run(*SMALL)
        assert (code, "no room" in err) == (2, True)
        (made,) = (tmp_path / "runs").iterdir()
        assert f"to continue: mpnn-arch train --out runs/{made.name} --resume" in err
        assert "to continue" not in run(*SMALL, "--out", "named")[2]


def test_a_recipe_and_single_values_of_it_are_saved_whole(tmp_path, run):
    out = tmp_path / "run"
    code, _, err = run(
        *SMALL, "--recipe", "mlp_mnist1d", "--set", "label_smoothing=0.1", "--set",
        "schedule=cosine_by_epoch", "--set", "clip_gradient_norm=1", "--learning-rate", "0.05",
        "--set", "crop_padding=1", "--set", "optimizer=foreach", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    saved = json.loads((out / "study.json").read_text())["config"]
    assert (saved["recipe"], saved["dataset"]) == ("mlp_mnist1d", "digits")
    assert saved["training"] == {
        "epochs": 2, "batch_size": 128, "learning_rate": 0.05, "momentum": 0.9, "nesterov": True,
        "weight_decay": 5e-4, "schedule": "cosine_by_epoch", "optimizer": "foreach",
        "label_smoothing": 0.1, "clip_gradient_norm": 1.0, "drop_last": False, "flip": False,
        "crop_padding": 1, "smallest_area": None, "lighting": 0.0, "batch_norm_images": 0,
        "precision": "float32", "channels_last": False, "compile": False,
    }  # fmt: skip
    rates = [float(row["learning_rate"]) for row in untimed(out)]
    assert rates[:2] == [0.05, 0.025]  # constant within an epoch
    code, _, err = run("train", "--resume", "--out", out, "--set", "label_smoothing=0.2")
    assert (code, "made with the recipe's label_smoothing 0.1" in err) == (2, True)
    assert run("train", "--resume", "--out", out, "--set", "label_smoothing=0.1")[0] == 0


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    finished, tmp_path, monkeypatch, run, recwarn
):
    # Two epochs in all: the second is redone from the checkpoint after the first.
    from mpnn_arch.studies import tasks

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:

        def stop(*args):
            raise KeyboardInterrupt

        patch.setattr(tasks, "save", stop)
        assert run(*SMALL, "--out", str(out))[0] == 130
    saved = (out / "checkpoints").glob("*.safetensors")
    newest, before = sorted(saved, key=lambda path: "previous" in path.name)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    assert run("train", "--resume", "--out", str(out))[0] == 0
    assert any("is resumed from the checkpoint before it" in str(w.message) for w in recwarn)
    assert untimed(out) == untimed(finished)
    assert weights(out) == weights(finished)
    assert not before.exists()
    assert not list((out / "checkpoints").iterdir())


@pytest.mark.parametrize("runner", ["ray", "submitit"])
def test_a_runner_that_is_not_installed_is_missed_before_a_folder_is_made(
    tmp_path, run, monkeypatch, runner
):
    monkeypatch.setitem(sys.modules, runner, None)
    code, _, error = run("sweep", *SMALL[1:], "--runner", runner, "--out", tmp_path / "study")
    assert code == 2
    assert 'pip install "mpnn-arch[cluster]"' in error
    assert not (tmp_path / "study").exists()
