"""A step as one CUDA graph, without a CUDA device: a stand-in records it and runs it again."""

import contextlib
import json

import pytest
import torch

from mpnn_arch import InputError, graphs, models
from mpnn_arch.cli import main
from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.studies import replay as replaying
from mpnn_arch.studies.run_options import alone
from mpnn_arch.training import (
    Trainer,
    TrainingConfig,
    devices,
    graphed_step,
    load_dataset,
    trainer,
)
from mpnn_arch.training.graphed_step import WARM_UP, GraphedStep


class StandIn:
    """A graph: what was captured did not run then, and runs at each replay."""

    def __init__(self, run):
        self.run, self.replays = run, 0

    def replay(self):
        self.replays += 1
        self.run()


def make(monkeypatch=None, capture=StandIn, images=200, **recipe):
    """A trainer on a stand-in for a GPU, or an ordinary one."""
    data = load_dataset("digits").subset(images, 50)
    torch.manual_seed(0)
    model = models.build("mlp", graphs.ring(8, 4), in_features=64, hidden_features=32)
    how = {}
    if monkeypatch is not None:
        monkeypatch.setattr(trainer, "check_graphs", lambda device: None)
        monkeypatch.setattr(trainer, "GraphedStep", lambda step: GraphedStep(step, capture))
        how["cuda_graphs"] = True
    config = TrainingConfig(epochs=3, batch_size=32, learning_rate=0.05, **recipe)
    return Trainer(model, data, config, generator=torch.Generator().manual_seed(1), **how)


def test_a_replayed_step_trains_as_an_ordinary_one_does(monkeypatch):
    made = []

    def capture(run):
        made.append(StandIn(run))
        return made[-1]

    graphed = make(monkeypatch, capture)
    ordinary = make(optimizer="fused")
    for _ in range(2):
        ours, theirs = graphed.train_epoch(), ordinary.train_epoch()
        assert ours.train_loss == theirs.train_loss
        assert ours.train_error == theirs.train_error
    for mine, other in zip(graphed.model.parameters(), ordinary.model.parameters(), strict=True):
        assert torch.equal(mine, other)
    # 200 images are 6 batches of 32 and one of 8, which is an ordinary step.
    assert [graph.replays for graph in made] == [2 * 6 - WARM_UP]
    assert not graphed.notes


def test_the_rate_is_no_part_of_the_graph(monkeypatch):
    graphed = make(monkeypatch)
    (group,) = graphed.optimizer.param_groups
    tensor = group["lr"]
    graphed.train_epoch()
    assert group["lr"] is tensor
    last = graphed.steps_per_epoch - 1
    assert float(tensor) == pytest.approx(
        graphed.config.scheduled_rate(last, graphed.steps_per_epoch)
    )


def test_a_capture_that_fails_is_said_once_and_training_goes_on(monkeypatch):
    def capture(run):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    graphed, ordinary = make(monkeypatch, capture), make(optimizer="fused")
    for _ in range(2):
        assert graphed.train_epoch().train_loss == ordinary.train_epoch().train_loss
    (note,) = graphed.notes
    assert "operation not permitted when stream is capturing" in note
    assert "and more" not in note
    assert "step by step" in note


def test_moved_weights_are_captured_again(monkeypatch):
    made = []

    def capture(run):
        made.append(run)
        return StandIn(run)

    graphed = make(monkeypatch, capture)
    graphed.train_epoch()
    graphed.load_state(graphed.model.state_dict(), {})
    graphed.train_epoch()
    assert len(made) == 2


def test_outputs_are_overwritten_by_the_next_replay_and_inputs_are_copied():
    seen = []

    def step(images, labels):
        seen.append(images)
        return images.sum(), labels.sum()

    graphed = GraphedStep(step, StandIn)
    batches = [(torch.full((2, 3), float(i)), torch.full((2,), i)) for i in range(WARM_UP + 3)]
    for i, batch in enumerate(batches):
        loss, wrong = graphed(*batch)
        assert (float(loss), int(wrong)) == (6.0 * i, 2 * i)
    assert len({images.data_ptr() for images in seen[WARM_UP:]}) == 1
    assert all(seen[i] is batches[i][0] for i in range(WARM_UP))


def test_the_capture_lets_other_threads_allocate(monkeypatch):
    asked = {}

    def graph(made, **how):
        asked.update(how)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(torch.cuda, "graph", graph)
    ran = []
    assert graphed_step.capture(lambda: ran.append(1)) == "graph"
    assert ran == [1]
    assert asked == {"capture_error_mode": "thread_local"}


def test_without_a_gpu_graphs_are_refused():
    with pytest.raises(InputError, match="CUDA graphs need a CUDA device, and the training is on"):
        Trainer(
            torch.nn.Flatten(),
            load_dataset("digits").subset(64, 10),
            TrainingConfig(epochs=1),
            generator=torch.Generator(),
            cuda_graphs=True,
        )


def test_the_command_refuses_them_with_one_sentence(tmp_path, capsys):
    options = ["--dataset", "digits", "--train-images", "64", "--epochs", "1", "--device", "cpu"]
    folder = tmp_path / "study"
    with pytest.raises(SystemExit) as ended:
        main(["train", *options, "--cuda-graphs", "--out", str(folder)])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "CUDA graphs need a CUDA device" in said
    assert "leave out --cuda-graphs" in said
    assert not folder.exists()


STUDY = StudyConfig(
    model="mlp",
    dataset="digits",
    graphs=("ring:8,4",),
    seeds=(0,),
    train_images=200,
    test_images=50,
    width_multiplier=0.125,
    training=TrainingConfig(epochs=3, batch_size=32, learning_rate=0.05),
)


def test_a_study_says_once_that_nothing_was_captured(monkeypatch, tmp_path):
    def capture(run):
        raise RuntimeError("operation not permitted")

    make(monkeypatch, capture)  # the stand-in
    monkeypatch.setattr(devices, "check_graphs", lambda device: None)
    events = []
    study = Study.create(tmp_path / "study", STUDY)
    study.run(cuda_graphs=True, device="cpu", workers=0, watch=events.append)
    notes = [event["text"] for event in events if event["is"] == "note"]
    assert sum("operation not permitted" in note for note in notes) == 1
    assert [event["is"] for event in events].count("epoch") == 3


def test_a_study_records_that_its_steps_were_graphs(monkeypatch, tmp_path):
    make(monkeypatch)  # the stand-in
    monkeypatch.setattr(devices, "check_graphs", lambda device: None)
    study = Study.create(tmp_path / "study", STUDY)
    study.run(cuda_graphs=True, device="cpu", workers=0)
    with study.ledger() as ledger:
        (row,) = ledger.trials()
    assert row["state"] == "done"
    assert json.loads(row["machine"])["cuda_graphs"] is True
    asked = []
    monkeypatch.setattr(replaying, "_training", lambda tasks, place: asked.extend(tasks))
    for device, graphed in (("cpu", False), ("cuda", True)):
        with pytest.raises(TypeError):  # nothing is trained
            replaying.replay(study, "1", device=device)
        assert asked.pop().cuda_graphs is graphed


def test_networks_side_by_side_are_refused():
    assert alone(None) == alone("auto") == alone(1) == "off"
    with pytest.raises(InputError, match="not 4 side by side"):
        alone(4)
