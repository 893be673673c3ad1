"""Training in a process of its own."""

import gc
import os
import time
from types import SimpleNamespace

import pytest

from mpnn_arch.explorer import live_training
from mpnn_arch.explorer.live_training import LiveTraining, trained_pair
from mpnn_arch.graphs import parse_one
from mpnn_arch.studies.study import Study

pytest.importorskip("sklearn")
pytestmark = pytest.mark.slow


def test_an_edited_graph_is_trained_by_its_file(tmp_path):
    ring, complete = parse_one("ring:8,2"), parse_one("complete:8")
    edited, baseline = trained_pair("complete:8", ring, tmp_path)
    assert baseline == "complete:8"
    # Edited again, it is another file: a study that is under way keeps its graph.
    again, _ = trained_pair("complete:8", parse_one("ring:8,4"), tmp_path)
    assert again != edited
    assert parse_one(edited) == ring
    assert trained_pair("complete:8", complete, None) == ["complete:8"]


@pytest.fixture
def start():
    jobs = []

    def start(*args, **kwargs):
        jobs.append(LiveTraining(*args, **kwargs))
        return jobs[-1]

    yield start
    for job in jobs:
        job.discard()
        assert not job.is_running
        assert not job._folder.exists()


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_training_is_watched_and_stopped(start):
    swapped = {"message": "affine", "aggr": "mean"}
    job = start(["ring:16,4", "complete:16"], epochs=200, seeds=1, **swapped)
    wait_for(lambda: len(job.look()) >= 2 or not job.is_running)
    assert job.failure is None
    assert job.is_running
    config = Study.open(job._folder / "run").config
    assert (config.messages, config.aggrs) == (("affine",), ("mean",))
    assert {row.graph for row in job.look()} == {"ring:16,4"}
    job.stop()
    assert not job.is_running
    assert job.failure is None
    assert len(job.look()) >= 2  # what was measured stays


def test_it_ends_when_nobody_looks(start):
    job = start(["ring:16,4"], epochs=100_000, seeds=1, patience=2.0)
    wait_for(lambda: not job.is_running)
    assert job.failure is None


def test_it_ends_with_the_page_that_held_it():
    def begin():
        job = LiveTraining(["ring:16,4"], epochs=100_000, seeds=1)
        wait_for(lambda: job.look() or not job.is_running)
        return job.process, job._folder

    process, folder = begin()
    assert process.returncode is None
    gc.collect()
    wait_for(lambda: process.poll() is not None)
    assert not folder.exists()


def test_a_training_that_cannot_begin_says_why(start):
    job = start(["ring:16,99"], epochs=1)
    wait_for(lambda: not job.is_running)
    assert "degree is between 2 and 15" in job.failure
    assert job.look() == []


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_set_neither_ends_a_training_nor_keeps_it(tmp_path, monkeypatch, hours):
    now, asleep, ended, seen = [0.0], [], [], tmp_path / "seen"
    seen.touch()

    def sleep(seconds):
        now[0] += seconds
        asleep.append(seconds)
        if len(asleep) < 20:  # looked at, by a clock that was set
            at = time.time() + 3600 * hours + len(asleep)
            os.utime(seen, (at, at))

    clock = SimpleNamespace(
        monotonic=lambda: now[0], time=lambda: time.time() + now[0], sleep=sleep
    )
    monkeypatch.setattr(live_training, "time", clock)
    monkeypatch.setattr(live_training.os, "kill", lambda *how: ended.append(now[0]))
    live_training._end_when_unseen(seen, 10.0)
    assert ended == [pytest.approx(30.0, abs=2.0)]  # ten seconds after the last look
