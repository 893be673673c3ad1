import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

import mpnn_arch
from mpnn_arch import InputError, cli, graphs
from mpnn_arch.training.run_directory import RunDirectory

# Two graphs of 16 nodes, two seeds: a second or two on a small set.
SMALL = [
    "train", "--dataset", "digits", "--graph", "ws_flex:16,4,0.2,0", "--graph", "complete:16",
    "--seeds", "2", "--epochs", "2", "--train-images", "300", "--test-images", "100",
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
    names = {file.name for file in finished.iterdir()}
    assert names == {
        "config.json", "metrics.csv", "results.csv", "results.json", "curves.png", "weights",
        "checkpoints",
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
    assert dense["widths"] == "512"
    assert dense["clustering_coefficient"] == 1
    # Equal cost: the smallest width whose multiply-adds are at least the complete graph's.
    assert 0 <= sparse["multiply_adds"] - dense["multiply_adds"] < 0.007 * dense["multiply_adds"]


def test_the_weights_are_a_model_with_its_graph(finished):
    from mpnn_arch.training.data import load_dataset

    data = load_dataset("digits").subset(300, 100)
    rows = {(r["graph"], r["seed"]): r for r in untimed(finished) if r["epoch"] == "2"}
    for name, graph in (("0-ws_flex-16-4-0.2-0-seed1", "ws_flex:16,4,0.2,0"),):
        model = mpnn_arch.load(finished / "weights" / f"{name}.safetensors").eval()
        assert model.graphs[0] == graphs.parse(graph)[0]
        wrong = (model(data.test_images).argmax(1) != data.test_labels).sum().item()
        assert wrong == float(rows[graph, "1"]["test_error"])


def test_an_existing_directory_is_refused_and_left_alone(finished, run):
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    code, _, err = run(*SMALL, "--out", str(finished))
    assert code == 2
    assert "--resume" in err
    assert {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before


def test_resuming_a_finished_run_prints_its_table_again(finished, run):
    before = weights(finished), untimed(finished)
    code, out, _ = run("train", "--resume", "--out", str(finished))
    assert code == 0
    assert "complete:16" in out
    assert (weights(finished), untimed(finished)) == before


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
    assert {f.name for f in out.iterdir()} == {f.name for f in finished.iterdir()}


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
        while not (out / "metrics.csv").exists() and time.monotonic() < until:
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
    assert RunDirectory.open(out).read_metrics()


def test_a_truncated_or_changed_checkpoint_stops_the_resume(tmp_path, monkeypatch, run):
    out = tmp_path / "stopped"
    interrupted(monkeypatch, out, 1)
    (file,) = (out / "checkpoints").iterdir()
    whole = file.read_bytes()
    for spoiled, words in (
        (whole[:-10], "cut short"),
        (whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:], "changed"),
    ):
        file.write_bytes(spoiled)
        code, _, err = run("train", "--resume", "--out", str(out))
        assert code == 2
        assert words in err
    file.unlink()  # the fix that the message suggests
    assert run("train", "--resume", "--out", str(out))[0] == 0


def test_a_checkpoint_of_another_graph_or_a_graph_that_changed_is_refused(
    tmp_path, monkeypatch, run
):
    out = tmp_path / "stopped"
    interrupted(monkeypatch, out, 3)
    (other,) = (out / "checkpoints").iterdir()
    assert other.name.startswith("1-complete")
    (out / "weights" / "0-ws_flex-16-4-0.2-0-seed0.safetensors").unlink()
    other.rename(other.with_name("0-ws_flex-16-4-0.2-0-seed0.safetensors"))
    code, _, err = run("train", "--resume", "--out", str(out))
    assert code == 2
    assert "belongs to another run" in err

    config = json.loads((out / "config.json").read_text())
    config["graph_hashes"][0] = "0" * 64
    (out / "config.json").write_text(json.dumps(config))
    code, _, err = run("train", "--resume", "--out", str(out))
    assert code == 2
    assert "was started on another graph" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "mpl"], "mlp"),
        (["--dataset", "mnist"], "cifar10, digits, imagenet, mnist1d, mnist5k"),
        (["--recipe", "mlp_cifar"], "did you mean 'mlp_cifar10'"),
        (["--recipe", "resnet20_cifar10", "--model", "mlp"], "is for resnet20, not mlp"),
        (["--set", "flip"], "NAME=VALUE"),
        (["--set", "flips=true"], "no field 'flips'"),
        (["--set", "flip=true", "--set", "flip=false"], "twice"),
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
    assert (code, "not a run directory" in err) == (2, True)
    for arguments in (["--epochs", "3"], ["--seeds", "3"], ["--graph", "ring:16"]):
        code, _, err = run("train", "--resume", "--out", str(finished), *arguments)
        assert code == 2
        assert "was started with" in err


def test_the_default_directory_is_named_after_the_run(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(*SMALL, "--epochs", "1", "--seeds", "4,")
    assert code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("mlp-digits-20")
    assert str(folder.relative_to(tmp_path)) in out
    assert json.loads((folder / "config.json").read_text())["run"]["seeds"] == [4]


def test_a_recipe_and_single_values_of_it_are_saved_whole(tmp_path, run):
    out = tmp_path / "run"
    code, _, err = run(
        *SMALL, "--recipe", "mlp_mnist1d", "--set", "label_smoothing=0.1", "--set",
        "schedule=cosine_by_epoch", "--set", "clip_gradient_norm=1", "--learning-rate", "0.05",
        "--set", "crop_padding=1", "--set", "optimizer=foreach", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    saved = json.loads((out / "config.json").read_text())["run"]
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
    assert (code, "was started with label_smoothing 0.1" in err) == (2, True)
    assert run("train", "--resume", "--out", out, "--set", "label_smoothing=0.1")[0] == 0


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    finished, tmp_path, monkeypatch, run, recwarn
):
    # Two epochs in all: the second is redone from the checkpoint after the first.
    from mpnn_arch.training import experiment

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:

        def stop(*args):
            raise KeyboardInterrupt

        patch.setattr(experiment.mpnn_arch, "save", stop)
        assert run(*SMALL, "--out", str(out))[0] == 130
    newest, before = sorted((out / "checkpoints").iterdir(), key=lambda p: "previous" in p.name)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    assert run("train", "--resume", "--out", str(out))[0] == 0
    assert any("is resumed from the checkpoint before it" in str(w.message) for w in recwarn)
    assert untimed(out) == untimed(finished)
    assert weights(out) == weights(finished)
    assert not before.exists()
    assert not list((out / "checkpoints").iterdir())


def test_several_graphs_in_one_specification_are_refused(monkeypatch):
    from mpnn_arch.training import experiment

    monkeypatch.setattr(experiment.graph_families, "parse", lambda text: [None, None])
    with pytest.raises(InputError, match="names 2 graphs"):
        experiment.parse_graphs(["two"])
