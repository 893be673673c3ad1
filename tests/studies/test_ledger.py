import math
import sqlite3

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.recording import keep_best_weights, weights_name
from mpnn_arch.studies.writer import MOST_FAILURES, LedgerWriter

from .conftest import ABOUT, made_up_metrics, made_up_trials


def lease(ledger, worker="w"):
    with ledger.transaction():
        rows = ledger.lease(worker)
        for row in rows:
            ledger.started(row["id"], row["lease"], ABOUT)
    return rows[0] if rows else None


def record(ledger, row, epoch, error=10.0, number=None):
    with ledger.transaction():
        return ledger.record_epoch(
            row["id"], number or row["lease"], made_up_metrics(epoch, error), wall=0.5
        )


def finish(ledger, row, number=None):
    with ledger.transaction():
        return ledger.finish(row["id"], number or row["lease"])


def fail(ledger, row, reason="it broke"):
    with ledger.transaction():
        return ledger.fail(row["id"], row["lease"], reason)


def state(ledger, row):
    return next(ledger.query("SELECT * FROM trial WHERE id = ?", row["id"]))


def test_the_same_trial_is_queued_once(new_ledger):
    trials, graphs = made_up_trials(3)
    with new_ledger.transaction():
        assert new_ledger.add_trials([*trials, *trials], graphs) == 1
    assert new_ledger.counts().trials == 3


def test_reads_of_a_snapshot_agree(new_ledger):
    with Ledger(new_ledger.path) as reader:
        with reader.snapshot():
            before = reader.counts()
            lease(new_ledger)
            assert reader.counts() == before
            assert not list(reader.trials("running"))
        assert reader.counts().running == 1


def test_a_trial_goes_from_queued_to_done(new_ledger):
    row = lease(new_ledger)
    assert state(new_ledger, row)["state"] == "running"
    for epoch in (1, 2, 3):
        assert record(new_ledger, row, epoch, error=10 - epoch)
    assert finish(new_ledger, row)
    now = state(new_ledger, row)
    assert (now["state"], now["epochs_done"], now["test_error"]) == ("done", 3, 7.0)
    assert (now["seconds"], now["attempts"], now["failures"]) == (1.5, 1, 0)
    counts = new_ledger.counts()
    assert (counts.done, counts.queued, counts.epochs_done, counts.epochs_asked) == (1, 1, 3, 6)


def test_commits_are_idempotent(new_ledger):
    row = lease(new_ledger)
    assert record(new_ledger, row, 1)
    before = [tuple(r) for r in new_ledger.epochs(row["id"])], tuple(state(new_ledger, row))
    assert not record(new_ledger, row, 1)
    assert before == (
        [tuple(r) for r in new_ledger.epochs(row["id"])],
        tuple(state(new_ledger, row)),
    )
    for epoch in (2, 3):
        record(new_ledger, row, epoch)
    assert finish(new_ledger, row)
    assert not finish(new_ledger, row)
    assert not record(new_ledger, row, 3)
    assert not new_ledger.late_epochs()


def test_a_late_worker_is_compared_and_neither_lost_nor_doubled(new_ledger):
    late = lease(new_ledger, "slow")
    record(new_ledger, late, 1)
    assert not fail(new_ledger, late)
    row = lease(new_ledger, "quick")
    assert (row["id"], row["lease"]) == (late["id"], late["lease"] + 1)
    # The slow one was not dead: it gives what the ledger has, what it lacks, and its end.
    assert not record(new_ledger, late, 1)
    assert not record(new_ledger, late, 2, error=11.0)
    assert not record(new_ledger, late, 3, error=12.0)
    assert not finish(new_ledger, late)
    assert [e["agrees"] for e in new_ledger.late_epochs()] == [None, None]
    assert record(new_ledger, row, 2, error=11.0)
    assert record(new_ledger, row, 3, error=12.5)
    assert finish(new_ledger, row)
    assert [e["agrees"] for e in new_ledger.late_epochs()] == [True, False]
    assert [e["test_error"] for e in new_ledger.epochs(row["id"])] == [10.0, 11.0, 12.5]
    assert state(new_ledger, row)["test_error"] == 12.5


def test_a_continuation_with_other_bits_replaces_from_there_on(new_ledger):
    first = lease(new_ledger)
    for epoch in (1, 2):
        record(new_ledger, first, epoch)
    fail(new_ledger, first)
    row = lease(new_ledger)  # begins anew, on another machine
    assert not record(new_ledger, row, 1)
    assert record(new_ledger, row, 2, error=9.0)
    assert record(new_ledger, row, 3)
    assert [e["test_error"] for e in new_ledger.epochs(row["id"])] == [10.0, 9.0, 10.0]
    assert state(new_ledger, row)["seconds"] == 1.5
    (kept,) = new_ledger.late_epochs()
    assert (kept["epoch"], kept["test_error"], kept["lease"]) == (2, 10.0, first["lease"])
    assert kept["agrees"] is False


def test_a_trial_is_given_up_after_three_failures_and_the_rest_goes_on(new_ledger):
    for attempt in range(1, MOST_FAILURES + 1):
        row = lease(new_ledger)
        assert row["id"] == 1
        assert row["attempts"] == attempt
        assert fail(new_ledger, row, f"reason {attempt}") == (attempt == MOST_FAILURES)
    assert state(new_ledger, row)["reason"] == "reason 3"
    assert lease(new_ledger)["id"] == 2
    assert lease(new_ledger) is None
    reasons = [r["reason"] for r in new_ledger.query("SELECT reason FROM attempt WHERE trial = 1")]
    assert reasons == ["reason 1", "reason 2", "reason 3"]
    with new_ledger.transaction():
        new_ledger.requeue(failed=True)
    assert lease(new_ledger)["id"] == 1


def test_being_stopped_is_no_failure_of_the_trial(new_ledger):
    for _ in range(2 * MOST_FAILURES):
        row = lease(new_ledger)
        with new_ledger.transaction():
            new_ledger.release(row["id"], row["lease"], "stopped")
    for _ in range(2 * MOST_FAILURES):
        lease(new_ledger)
        with new_ledger.transaction():
            new_ledger.requeue()  # the driver was killed
    now = state(new_ledger, row)
    assert (now["state"], now["failures"], now["attempts"]) == ("queued", 0, 12)


def test_a_worker_that_ends_too_early_is_not_done(new_ledger):
    row = lease(new_ledger)
    record(new_ledger, row, 1)
    assert not finish(new_ledger, row)
    assert "after 1 of 3 epochs" in state(new_ledger, row)["reason"]
    assert state(new_ledger, row)["state"] == "queued"


def test_an_epoch_out_of_order_is_not_accepted(new_ledger):
    row = lease(new_ledger)
    assert not record(new_ledger, row, 2)
    assert not new_ledger.epochs(row["id"])


def test_numbers_come_back_to_the_bit_and_what_is_not_finite_is_equal_to_itself(new_ledger):
    row = lease(new_ledger)
    metrics = {**made_up_metrics(1), "train_loss": 0.1 + 0.2, "test_loss": math.inf}
    metrics |= {"test_error": math.nan, "top5_error": 0.5}
    for new in (True, False):
        with new_ledger.transaction():
            assert new_ledger.record_epoch(row["id"], row["lease"], metrics, wall=1.0) is new
    (epoch,) = new_ledger.epochs(row["id"])
    assert epoch["train_loss"] == 0.1 + 0.2
    assert epoch["test_loss"] == math.inf
    assert epoch["test_error"] is None
    assert epoch["more"] == '{"top5_error": 0.5}'


def test_a_transaction_that_raises_changes_nothing(new_ledger):
    def broken():
        with new_ledger.transaction():
            new_ledger.lease("w")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert new_ledger.counts().queued == 2


def test_foreign_keys_are_kept(new_ledger):
    with pytest.raises(InputError, match="FOREIGN KEY"), new_ledger.transaction():
        new_ledger.connection.execute("INSERT INTO epoch (trial, epoch, lease) VALUES (9, 1, 1)")


def test_a_change_costs_the_same_at_any_size(new_ledger):
    """No statement of a worker's results goes through a whole table."""
    said = []
    new_ledger.connection.set_trace_callback(said.append)
    row = lease(new_ledger)
    for epoch in (1, 2, 3):
        record(new_ledger, row, epoch)
    finish(new_ledger, row)
    row = lease(new_ledger)
    record(new_ledger, row, 1)
    fail(new_ledger, row)
    new_ledger.connection.set_trace_callback(None)
    changes = [text for text in said if text.split()[0] in ("SELECT", "UPDATE", "INSERT")]
    assert len(changes) > 15
    for text in changes:
        for step in new_ledger.connection.execute(f"EXPLAIN QUERY PLAN {text}"):
            assert not step["detail"].startswith("SCAN"), text


def test_reading_goes_on_while_a_change_is_under_way(new_ledger):
    with Ledger(new_ledger.path) as reader:
        with new_ledger.transaction():
            new_ledger.lease("w")
            assert reader.counts().running == 0
        assert reader.counts().running == 1
        with pytest.raises(InputError, match="readonly"):
            list(reader.query("DELETE FROM trial"))


def test_a_trial_is_found_by_number_and_by_hash(new_ledger):
    rows = list(new_ledger.trials())
    assert new_ledger.find_trial("2")["hash"] == rows[1]["hash"]
    assert new_ledger.find_trial(rows[0]["hash"][:12])["id"] == 1
    for wrong in ("3", "fffffffff", "x", ""):
        with pytest.raises(InputError, match="names no trial"):
            new_ledger.find_trial(wrong)


def test_a_full_disk_is_one_sentence_and_loses_nothing(new_ledger):
    row = lease(new_ledger)
    (pages,) = new_ledger.connection.execute("PRAGMA page_count").fetchone()
    new_ledger.connection.execute(f"PRAGMA max_page_count = {pages}")
    trials, graphs = made_up_trials(5000)
    with pytest.raises(InputError, match=r"full.*free some space"), new_ledger.transaction():
        new_ledger.add_trials(trials, graphs)
    new_ledger.connection.execute("PRAGMA max_page_count = 1000000")
    assert new_ledger.counts().trials == 2
    assert record(new_ledger, row, 1)


def test_a_ledger_is_read_where_sqlite_cannot_make_the_index_of_its_log(new_ledger):
    """As on a full disk, or in a copy without the index in a folder that cannot be written."""
    log = new_ledger.path.with_name(new_ledger.path.name + "-wal")
    index = new_ledger.path.with_name(new_ledger.path.name + "-shm")
    record(new_ledger, lease(new_ledger), 1)
    changes = log.read_bytes()
    new_ledger.connection.close()
    index.symlink_to("nowhere/at-all")  # no file of that name can be made
    for content in (None, b""):
        if content is not None:
            log.write_bytes(content)
        with Ledger(new_ledger.path) as ledger:
            assert ledger.counts().epochs_done == 1
    log.write_bytes(changes)  # what stands in the log alone cannot be left out
    with pytest.raises(InputError, match=r"unable to open.*copy the study"):
        Ledger(new_ledger.path)


def test_a_ledger_that_is_cut_short_or_something_else_is_refused(new_ledger, tmp_path):
    new_ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = new_ledger.path.read_bytes()
    for name, content, words in (
        ("cut", whole[: len(whole) // 2], "cut short"),
        ("empty", b"", "cut short"),
        ("text", b"hello" * 100, "cut short or damaged"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        for kind in (Ledger, LedgerWriter):
            with pytest.raises(InputError, match=words):
                kind(path)
    with pytest.raises(InputError, match="cannot be read"):
        Ledger(tmp_path / "nothing")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(InputError, match="something else"):
        Ledger(other)


@pytest.mark.parametrize("kind", [Ledger, LedgerWriter])
@pytest.mark.parametrize("number", [1, 99])
def test_a_ledger_of_another_version_is_refused(new_ledger, kind, number):
    new_ledger.connection.execute(f"PRAGMA user_version = {number}")
    with pytest.raises(InputError, match=f"version {number}, this library reads version 2"):
        kind(new_ledger.path)


@pytest.mark.parametrize("kind", [Ledger, LedgerWriter])
def test_a_ledger_that_is_refused_is_closed(new_ledger, monkeypatch, kind):
    new_ledger.connection.execute("PRAGMA user_version = 99")
    opened, connect = [], sqlite3.connect

    def watched(*args, **kwargs):
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", watched)
    with pytest.raises(InputError, match="version 99"):
        kind(new_ledger.path)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


def test_damage_within_is_one_sentence(new_ledger, tmp_path):
    new_ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(new_ledger.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(InputError, match="restore it from a copy"), Ledger(path) as ledger:
        ledger.counts()


def steps_of_sqlite(ledger, ask):
    """How many instructions of SQLite's machine the queries of ``ask()`` take."""
    steps = []
    ledger.connection.set_progress_handler(lambda: steps.append(1), 1)
    ask()
    ledger.connection.set_progress_handler(None, 1)
    return len(steps)


def test_choosing_the_best_weights_looks_at_no_trial_without_weights(tmp_path):
    steps = []
    for count in (4, 40):
        folder = tmp_path / str(count)
        (folder / "weights").mkdir(parents=True)
        trials, graphs = made_up_trials(count, epochs=1)
        with LedgerWriter.create(folder / "ledger.sqlite") as ledger:
            with ledger.transaction():
                ledger.add_trials(trials, graphs)
            for error in range(count, 0, -1):
                row = lease(ledger)
                record(ledger, row, 1, error)
                finish(ledger, row)
            rows = list(ledger.trials())[-3:]
            files = [folder / "weights" / f"{weights_name(row)}.safetensors" for row in rows]
            for file in files:
                file.touch()
            steps.append(steps_of_sqlite(ledger, lambda: keep_best_weights(folder, ledger)))  # noqa: B023
        assert list((folder / "weights").iterdir()) == files[-1:]
    assert steps[0] == steps[1] > 0
