"""Successive halving: who goes on follows from the ledger alone, whoever is stopped and when."""

import csv
import dataclasses
import math
import signal

import pytest
from scipy import stats

from mpnn_arch import InputError
from mpnn_arch.graphs import parse_one
from mpnn_arch.studies.config import StudyConfig
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.racing import _spearman, advance, correlations
from mpnn_arch.studies.writer import LedgerWriter
from mpnn_arch.training.config import TrainingConfig

from .conftest import made_up_metrics, made_up_trials, rows_of
from .test_faults import SMALL, is_whole, weights_of

NAMES = [f"ring:{nodes},2" for nodes in range(5, 13)]


@pytest.fixture
def ledger(tmp_path):
    """Eight graphs with two seeds each, four epochs, the first rung after one."""
    with LedgerWriter.create(tmp_path / "ledger.sqlite") as made:
        with made.transaction():
            made.add_trials(*trials_on(NAMES), until=1)
        yield made


def trials_on(names, seeds=2):
    (base, *_), _ = made_up_trials(1, epochs=4)
    graphs = {name: parse_one(name) for name in names}
    return [
        dataclasses.replace(base, graph=name, graph_hash=graph.content_hash, seed=seed)
        for seed in range(seeds)
        for name, graph in graphs.items()
    ], graphs


def train(ledger, error):
    """Train what is queued, as far as is asked; `error(row, epoch)` is its test error."""
    with ledger.transaction():
        while rows := ledger.lease("w"):
            (row,) = rows
            for epoch in range(row["epochs_done"] + 1, row["until"] + 1):
                metrics = made_up_metrics(epoch, error(row, epoch))
                ledger.record_epoch(row["id"], row["lease"], metrics, wall=1.0)
            last = row["until"] == row["epochs"]
            (ledger.finish if last else ledger.pause)(row["id"], row["lease"])


def race(ledger, error, rungs=(1, 2), keep=0.5):
    told = []
    for _ in range(10):
        train(ledger, error)
        with ledger.transaction():
            told += advance(ledger, rungs, keep)
        if not ledger.counts().queued:
            return told
    raise AssertionError("the race does not end")


def by_number(row, epoch):
    return 10 + NAMES.index(row["graph"]) + row["seed"] / 50 + 1 / epoch


def states(ledger):
    return {
        (row["graph"], row["seed"]): (row["state"], row["rung"], row["epochs_done"])
        for row in ledger.trials()
    }


def test_the_best_half_goes_on_at_each_rung_with_all_its_seeds(ledger):
    told = race(ledger, by_number)
    for place, name in enumerate(NAMES):
        wanted = ("done", None, 4) if place < 2 else ("stopped", 2 if place < 4 else 1, None)
        for seed in (0, 1):
            state, rung, epochs = states(ledger)[name, seed]
            assert (state, rung) == wanted[:2]
            assert epochs == (wanted[2] or rung)
    assert len(told) == 12
    assert told[0]["reason"] == (
        "5 of 8 after epoch 1 (mean test error 15.01 %); the best 4 went on"
    )
    counts = ledger.counts()
    assert (counts.done, counts.stopped, counts.waiting, counts.trials) == (4, 12, 0, 16)
    assert counts.epochs_done == counts.epochs_asked == 4 * 4 + 4 * 2 + 8 * 1
    with ledger.transaction():
        assert advance(ledger, (1, 2), 0.5) == []


def test_the_mean_over_seeds_decides_and_an_error_that_is_no_number_is_the_worst(ledger):
    def error(row, epoch):
        place = NAMES.index(row["graph"])
        if place == 0:
            return math.nan if row["seed"] else 0.0
        return 10 + place if row["seed"] else 30 - 2 * place  # the mean falls with the place

    race(ledger, error, rungs=(1,))
    done = {name for (name, _), (state, *_) in states(ledger).items() if state == "done"}
    assert done == set(NAMES[4:])


def test_equal_ones_go_by_their_place_in_the_study_and_one_always_goes_on(ledger):
    race(ledger, lambda row, epoch: 50.0, rungs=(1, 2, 3), keep=0.01)
    assert [name for (name, seed), (state, *_) in states(ledger).items() if state == "done"] == [
        NAMES[0]
    ] * 2


def test_failed_trials_do_not_hold_up_the_others(ledger):
    with ledger.transaction():
        (row,) = ledger.lease("w")
        ledger.fail(row["id"], row["lease"], "no", final=True)
    race(ledger, by_number)
    found = states(ledger)
    assert found[NAMES[0], 0][0] == "failed"
    assert found[NAMES[0], 1][0] == "done"


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1], NAMES[4:] + NAMES[:4]])
def test_an_extension_lets_all_go_on_that_would_have_from_the_start(ledger, tmp_path, order):
    race(ledger, by_number)
    with LedgerWriter.create(tmp_path / "extended.sqlite") as extended:
        with extended.transaction():
            extended.add_trials(*trials_on(order[:4]), until=1)
        race(extended, by_number)
        with extended.transaction():
            extended.add_trials(*trials_on(order), until=1)
        race(extended, by_number)
        for key, (state, rung, epochs) in states(ledger).items():
            got = states(extended)[key]
            # One that went on among few is not called back; all else is the same.
            assert got == (state, rung, epochs) or (state == "stopped" and got[2] > epochs)
            if state == "done":
                assert got[0] == "done"


def test_the_correlation_is_over_those_that_were_let_run(ledger):
    def error(row, epoch):
        return (by_number(row, 1) * (7 if epoch == 4 else 1)) % (13 if epoch == 4 else 99)

    race(ledger, error, rungs=(1,), keep=0.75)
    (found,) = correlations(ledger, (1,))
    assert (found.rung, found.candidates, found.of) == (1, 6, 8)
    rows = [row for row in ledger.trials() if row["state"] == "done"]
    mean = {
        (name, epoch): sum(error(row, epoch) for row in rows if row["graph"] == name) / 2
        for name in NAMES[:6]
        for epoch in (1, 4)
    }
    wanted = stats.spearmanr(*([mean[name, epoch] for name in NAMES[:6]] for epoch in (1, 4)))
    assert found.spearman == pytest.approx(wanted.statistic)
    assert abs(found.spearman) < 0.999


def test_spearman_is_scipys_with_ties_too():
    first, second = [1.0, 2.0, 2.0, 5.0, 3.0], [4.0, 1.0, 1.0, 9.0, 2.0]
    assert _spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert _spearman(first[:2], second[:2]) is None
    assert _spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


class Counted(float):
    """A number that counts how often it was compared for equality."""

    compared = 0
    __hash__ = float.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return super().__eq__(other)


def test_the_work_of_a_rank_does_not_grow_with_the_number_of_graphs():
    errors = [Counted(number % 501) for number in range(1000)]
    assert _spearman(errors, errors) == pytest.approx(1.0)
    assert Counted.compared < 20 * len(errors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"race": (3, 2)}, "rise from 1 epoch"),
        ({"race": (0,)}, "rise from 1 epoch"),
        ({"race": (4,)}, "fewer than the recipe's 4, 4 was given"),
        ({"race": (1.5,)}, "list of numbers of epochs"),
        ({"race": "3"}, "list of numbers of epochs"),
        ({"keep": 1.0}, "share between 0 and 1"),
        ({"keep": 0}, "share between 0 and 1"),
    ],
)
def test_wrong_races_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        StudyConfig(
            model="mlp", dataset="digits", graphs=("complete:8",), seeds=(0,),
            training=TrainingConfig(epochs=4), **change,
        )  # fmt: skip


RACE = (*SMALL, "--seeds", 2, "--race", "1,2", "--keep", 0.4)


@pytest.fixture(scope="module")
def undisturbed(drivers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("races") / "study"
    code, told = drivers.run(*RACE, "--out", folder)
    assert code == 0, told
    assert "order after epoch 1 and at the end" in told
    return folder, rows_of(folder), weights_of(folder)


def test_a_real_race(drivers, undisturbed, tmp_path):
    folder, (trials, epochs, late), _ = undisturbed
    assert (
        sorted((row[1], row[2]) for row in trials)
        == [("done", 3)] * 2 + [("stopped", 1)] * 2 + [("stopped", 2)] * 2
    )
    assert (len(epochs), len(late)) == (2 * 3 + 2 * 1 + 2 * 2, 0)
    code, told = drivers.run("status", folder)
    assert code == 0
    assert "stopped" in told
    code, told = drivers.run("export", folder, "--to", tmp_path / "r.csv")
    assert "2 rows" in told
    assert "left out: 4 trials (4 stopped by the race); see --all-epochs" in told
    code, told = drivers.run("export", folder, "--to", tmp_path / "all.csv", "--all-epochs")
    assert "12 rows" in told
    with (tmp_path / "all.csv").open(newline="") as file:
        ends = {(row["state"], row["stopped_after"]) for row in csv.DictReader(file)}
    assert ends == {("done", ""), ("stopped", "1"), ("stopped", "2")}
    code, told = drivers.run("sweep", "--out", folder, "--race", "1")
    assert code == 2
    assert "the study was made with race 1,2, not 1;" in told
    code, told = drivers.run(*RACE, "--population", 2, "--out", tmp_path / "other")
    assert code == 2
    assert "in a race each network is trained alone" in told
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("point", ["race.decided:1", "race.decided:2", "ledger.committed:9"])
def test_a_race_killed_at_a_point_ends_the_same(drivers, undisturbed, tmp_path, point):
    folder, once = tmp_path / "study", tmp_path / "it_happened"
    command = (*RACE, "--out", folder)
    code, told = drivers.run(*command, MPNN_ARCH_CRASH=point, MPNN_ARCH_CRASH_ONCE=once)
    assert code == -signal.SIGKILL, told
    assert once.exists()
    code, told = drivers.run(
        "sweep", "--out", folder, "--workers", 2, "--device", "cpu", "--no-report"
    )
    assert code == 0, told
    is_whole(folder, undisturbed)
    with Ledger(folder / "ledger.sqlite") as ledger, Ledger(undisturbed[0] / "ledger.sqlite") as o:
        reasons = [[row["reason"] for row in one.trials()] for one in (ledger, o)]
    assert reasons[0] == reasons[1]
