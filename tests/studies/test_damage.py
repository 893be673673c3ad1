"""A ledger that was edited by hand or by a disk is one sentence, and never an error of ours."""

import shutil
import sqlite3

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies import Ledger, Study, StudyConfig
from mpnn_arch.studies.damage import find_damage
from mpnn_arch.studies.replay import replay
from mpnn_arch.training import TrainingConfig

EDITS = {
    "UPDATE trial SET spec = 'x'": "spec of trial is 'x'",
    "UPDATE trial SET spec = '{}'": "spec of trial 1 has no aggr",
    "UPDATE trial SET widths = '['": "widths of trial is '['",
    "UPDATE trial SET widths = '3'": "widths of trial is '3'",
    "UPDATE trial SET graph_hash = 'none'": "the graph of trial 1 is not there",
    "UPDATE trial SET parameters = 'p'": "parameters of trial is 'p', which is no integer or null",
    "UPDATE graph SET num_nodes = 0": "num_nodes of graph is 0",
    "UPDATE epoch SET more = 'x'": "more of epoch is 'x'",
    "UPDATE epoch SET more = '[]'": "more of epoch is '[]'",
    "ALTER TABLE graph RENAME average_degree TO average_egree": "has no column average_degree",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = StudyConfig(
        model="mlp",
        dataset="digits",
        graphs=("ring:8,4",),
        seeds=(0,),
        width_multiplier=0.05,
        train_images=128,
        test_images=64,
        training=TrainingConfig(epochs=1),
    )
    study = Study.create(tmp_path_factory.mktemp("studies") / "finished", config)
    study.run(workers=0)
    return study.path


@pytest.fixture
def edited(finished, tmp_path):
    def edit(sql):
        folder = tmp_path / "edited"
        shutil.copytree(finished, folder)
        connection = sqlite3.connect(folder / "ledger.sqlite")
        connection.execute("PRAGMA foreign_keys = OFF")
        with connection:
            assert connection.execute(sql).rowcount
        connection.close()
        return Study.open(folder)

    return edit


def test_a_ledger_that_drivers_wrote_has_no_damage(finished):
    with Study.open(finished).ledger() as ledger:
        assert find_damage(ledger.connection) is None


@pytest.mark.parametrize("sql", EDITS)
def test_reading_what_was_edited_names_the_value_and_what_to_do(edited, sql):
    study = edited(sql)
    with pytest.raises(InputError, match="restore it from a copy") as caught:
        study.table(all_epochs=True)
    assert EDITS[sql] in str(caught.value)


def test_replaying_and_going_on_do_so_too(edited):
    study = edited("UPDATE trial SET spec = 'x', state = 'queued'")
    with pytest.raises(InputError, match="spec of trial is 'x'"):
        replay(study, "1")
    with pytest.raises(InputError, match="spec of trial is 'x'"):
        study.run(workers=0)


def test_text_that_is_no_utf_8_is_found(edited):
    study = edited("UPDATE trial SET spec = CAST(x'ff' AS TEXT)")
    with study.ledger() as ledger:
        assert "UTF-8" in (find_damage(ledger.connection) or "")


def test_an_error_of_another_cause_is_left_as_it_is(finished):
    with pytest.raises(ZeroDivisionError), Ledger(finished / "ledger.sqlite"):
        _ = 1 / 0


def test_a_query_that_is_dropped_after_its_ledger_is_quiet(finished):
    with Ledger(finished / "ledger.sqlite") as ledger:
        rows = ledger.query("SELECT * FROM sqlite_master")
        next(rows)
    rows.close()  # raised: Cannot operate on a closed database
