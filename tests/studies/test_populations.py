"""Trials trained side by side: who with whom stands in the ledger, and a stop changes no bit."""

import dataclasses
import signal

import pytest

from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.jobs import run_job
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.replay import replay
from mpnn_arch.studies.study import Study
from mpnn_arch.studies.tasks import train_task
from mpnn_arch.studies.writer import MOST_FAILURES
from mpnn_arch.training.config import TrainingConfig

from .conftest import rows_of, weights_of
from .test_faults import is_whole

GRAPHS = ("ws_flex:8,4,0.2,0", "ring:8,2", "complete:8")
SMALL = (
    "sweep", "--dataset", "digits", *(f"--graphs={graph}" for graph in GRAPHS), "--epochs", 3,
    "--train-images", 100, "--test-images", 50, "--width-multiplier", 0.125, "--seeds", 2,
    "--weights", "all", "--workers", 1, "--threads", 1, "--device", "cpu", "--no-report",
    "--population", 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(drivers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("populations") / "study"
    code, told = drivers.run(*SMALL, "--out", folder)
    assert code == 0, told
    return folder, rows_of(folder), weights_of(folder)


def populations(folder):
    with Ledger(folder / "ledger.sqlite") as ledger:
        rows = ledger.query("SELECT population, place, trial FROM member ORDER BY 1, 2")
        return [tuple(row) for row in rows]


def test_members_of_one_seed_are_trained_together(undisturbed):
    folder, (trials, epochs, late), weights = undisturbed
    assert populations(folder) == [(1 + i // 3, i % 3, 1 + i) for i in range(6)]
    assert [row[1] for row in trials] == ["done"] * 6
    assert (len(epochs), len(late), len(weights)) == (18, 0, 6)
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert {row["seed"] for row in ledger.members(1)} == {0}
        workers = {(r["trial"], r["worker"]) for r in ledger.query("SELECT * FROM attempt")}
    assert len({worker for _, worker in workers}) == 1
    assert not list((folder / "checkpoints").iterdir())


def test_each_member_is_to_rounding_what_it_is_alone(drivers, undisturbed, tmp_path):
    alone = tmp_path / "alone"
    code, told = drivers.run(*SMALL[:-1], "off", "--out", alone)
    assert code == 0, told
    assert populations(alone) == []
    for ours, theirs in zip(undisturbed[1][1], rows_of(alone)[1], strict=True):
        assert ours[:3] == theirs[:3]
        assert ours[3] == pytest.approx(theirs[3], rel=1e-3)  # the training loss


POINTS = (
    "lease.given:1", "worker.received:2", "epoch.trained:2", "journal.half:2", "journal.written:3",
    "checkpoint.written:2", "checkpoint.written:2=torn", "epoch.sent:2", "weights.written:2",
    "result.sent:2", "ledger.transaction:6", "ledger.committed:7", "trial.accepted:2",
)  # fmt: skip
IN_WORKER = ("worker.", "epoch.", "journal.", "checkpoint.", "weights.", "result.")


@pytest.mark.parametrize("point", POINTS)
def test_a_population_killed_at_a_point_ends_the_same(drivers, undisturbed, tmp_path, point):
    folder, once = tmp_path / "study", tmp_path / "it_happened"
    command = (*SMALL, "--out", folder)
    code, told = drivers.run(*command, MPNN_ARCH_CRASH=point, MPNN_ARCH_CRASH_ONCE=once)
    assert once.exists(), told
    if point.startswith(IN_WORKER):
        assert code == 0, told
        assert "was killed (signal 9)" in told
    else:
        assert code == -signal.SIGKILL, told
        assert drivers.run(*command)[0] == 0
    assert populations(folder) == populations(undisturbed[0])
    is_whole(folder, undisturbed)


def test_a_member_is_replayed_to_the_same_bits_with_its_population(drivers, undisturbed):
    code, told = drivers.run("replay", undisturbed[0], 5, "--device", "cpu")
    assert code == 0, told
    assert "all 3 epochs are the same to the bit" in told


def test_a_number_is_refused_where_no_trial_can_be_in_a_population(drivers, tmp_path):
    code, told = drivers.run(*SMALL, "--backend", "gather", "--out", tmp_path / "study")
    assert code == 2
    assert "population 3 trains side by side mlp models of one seed" in told
    for wrong in ("0", "-1", "many"):
        code, told = drivers.run(*SMALL[:-1], wrong, "--out", tmp_path / wrong)
        assert code == 2
        assert "population is auto, off, or a number" in told
        assert not (tmp_path / wrong).exists()


CONFIG = StudyConfig(
    model="mlp",
    dataset="digits",
    graphs=GRAPHS,
    seeds=(0,),
    training=TrainingConfig(epochs=3, batch_size=20),
    train_images=100,
    test_images=50,
    width_multiplier=0.125,
)


def events_of(recorder, rows, is_stopping):
    events = []
    fit = run_job(recorder.job(rows), events.append, is_stopping)
    return events, fit


@pytest.fixture
def together(tmp_path):
    """A study of three networks that are one population: its recorder, open for writing."""
    from mpnn_arch.studies.populations import plan_populations
    from mpnn_arch.studies.recording import Recorder, RunSettings
    from mpnn_arch.studies.writer import LedgerWriter

    study = Study.create(tmp_path / "study", CONFIG)
    with LedgerWriter(study.path / "ledger.sqlite") as ledger:
        recorder = Recorder(study.path, ledger, RunSettings(workers=1, threads=1))
        plan_populations(recorder, 3)
        yield recorder


def train(recorder, is_stopping=lambda: False):
    """Lease a job, train it and record what it says."""
    with recorder.ledger.transaction():
        rows = recorder.ledger.lease("w")
    assert len(rows) == 3
    said, fit = events_of(recorder, rows, is_stopping)
    assert fit
    with recorder.ledger.transaction():
        for event in said:
            recorder.record(next(row for row in rows if row["id"] == event["id"]), event)


def test_a_population_stopped_after_every_epoch_is_replayed_to_the_same_bits(together):
    for epochs in (1, 2, 3):
        train(together, is_stopping=lambda: True)
        assert {row["epochs_done"] for row in together.ledger.trials()} == {epochs}
    assert {row["state"] for row in together.ledger.trials()} == {"done"}
    assert "3 side by side" in together.ledger.find_trial("1")["choices"]
    for which in ("1", "2", "3"):
        again = replay(Study.open(together.folder), which)
        assert [one.epoch for one in again] == [1, 2, 3]
        assert not any(one.differs for one in again)


def test_a_member_that_diverges_is_failed_and_touches_no_other(together, monkeypatch):
    from mpnn_arch.studies import together as module

    make = module.make_model

    def with_a_bad_one(task):
        trial, model, data = make(task)
        if task.id == 2:
            model.head.bias.data.fill_(float("nan"))
        return trial, model, data

    monkeypatch.setattr(module, "make_model", with_a_bad_one)
    train(together)
    states = [(row["state"], row["epochs_done"]) for row in together.ledger.trials()]
    assert states == [("done", 3), ("failed", 0), ("done", 3)]
    bad = together.ledger.find_trial("2")
    assert "the training loss became nan in epoch 1" in bad["reason"]
    assert bad["attempts"] == 1
    errors = [row["test_error"] for row in together.ledger.trials()]
    assert errors[0] < 90
    assert errors[2] < 90
    # Tried again it is trained alone.
    with together.ledger.transaction():
        together.ledger.requeue(failed=True)
        (row,) = together.ledger.lease("w")
    assert row["id"] == 2
    assert together.job([row]).population is None


def test_a_population_that_always_fails_is_dissolved_and_its_members_go_on_alone(together):
    ledger = together.ledger
    for attempt in range(1, MOST_FAILURES + 1):
        with ledger.transaction():
            rows = together.ledger.lease("w")
            assert len(rows) == 3
            given_up = [ledger.fail(r["id"], r["lease"], "out of memory") for r in rows]
        assert given_up == [False] * 3, attempt
    with ledger.transaction():
        (row,) = together.ledger.lease("w")
    assert row["population"] is None
    said = []
    train_task(together.task(row), said.append)
    assert [event["is"] for event in said].count("epoch") == 3


def test_what_has_begun_stays_and_the_rest_is_planned_as_asked(together):
    from mpnn_arch.studies.populations import plan_populations

    ledger = together.ledger
    plan_populations(together, "off")
    assert {row["population"] for row in ledger.trials()} == {None}
    plan_populations(together, 2)
    found = [row["population"] for row in ledger.trials()]
    assert found[0] == found[1] is not None
    assert found[2] is None
    with ledger.transaction():
        together.ledger.lease("w")
        ledger.requeue()
    plan_populations(together, "off")
    assert [row["population"] for row in ledger.trials()] == found


def test_the_same_number_goes_on_where_one_network_is_left_that_has_not_begun(together):
    from mpnn_arch.studies.populations import plan_populations

    ledger = together.ledger
    plan_populations(together, 2)  # the third network is alone
    found = [row["population"] for row in ledger.trials()]
    with ledger.transaction():
        ledger.lease("w")
        ledger.requeue()
    plan_populations(together, 2)
    assert [row["population"] for row in ledger.trials()] == found


def test_auto_takes_what_the_timed_trial_says_and_no_more_than_keeps_workers_busy(
    together, monkeypatch
):
    from mpnn_arch.studies import populations as module
    from mpnn_arch.training.population_size import PopulationSize

    asked = []

    def choose(members, *more, **keywords):
        asked.append(len(members))
        return PopulationSize(size=2, seconds={1: 1.0, 2: 0.5}, fit=9)

    monkeypatch.setattr(module, "choose_population_size", choose)
    said = module.plan_populations(together, "auto")
    assert "0.50 of its time alone" in said
    assert asked == [3]
    assert together.ledger.setting("population")["tried"] == {"size": 2, "threads": 1}
    assert [row["population"] is None for row in together.ledger.trials()] == [False, False, True]
    together.settings = dataclasses.replace(together.settings, workers=3)
    module.plan_populations(together, "off")
    module.plan_populations(together, "auto")
    assert {row["population"] for row in together.ledger.trials()} == {None}
    together.settings = dataclasses.replace(together.settings, workers=1)
    assert module.plan_populations(together, None) is None
    assert asked == [3]  # what a trial said is kept
    assert len([row for row in together.ledger.trials() if row["population"]]) == 2


def test_a_timed_trial_that_cannot_be_made_leaves_each_alone(together, monkeypatch):
    from mpnn_arch.studies import populations as module

    def broken(task):
        raise ValueError("no data")

    monkeypatch.setattr(module, "make_model", broken)
    assert module.plan_populations(together, "auto") is None
    assert {row["population"] for row in together.ledger.trials()} == {None}
    assert together.ledger.setting("population")["tried"] is None


@pytest.mark.parametrize(("command", "asked"), [("train", "off"), ("sweep", "auto")])
def test_only_a_sweep_forms_populations_unasked(command, asked, tmp_path):
    study = Study.create(tmp_path / "study", CONFIG, command=command)
    study.run(workers=1, threads=1)
    with study.ledger() as ledger:
        assert ledger.setting("population")["asked"] == asked
        together = [row["population"] for row in ledger.trials() if row["population"]]
    assert command == "sweep" or not together


def test_no_workers_and_auto_train_together(tmp_path):
    study = Study.create(tmp_path / "study", CONFIG)
    assert study.run(workers=0, threads=1, population="auto").done == study.counts().trials
