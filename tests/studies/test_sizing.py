"""Workers and threads by a trial: what is counted, when it is taken, and that it is kept."""

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies import sizing
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.recording import Recorder, RunSettings
from mpnn_arch.studies.runners import Runner
from mpnn_arch.studies.study import Study

from .conftest import made_up_trials
from .test_faults import SMALL


class MadeUpPool:
    """Workers whose rates are known; all have to be ready before the first is stopped."""

    def __init__(self, size, rates, memory=1e6, fails=False):
        self.size, self.rates, self.memory, self.fails = size, rates, memory, fails
        self.jobs, self.stopped, self.closed, self.told = {}, False, False, set()

    def start(self):
        return f"w{len(self.jobs)}"

    def submit(self, worker, job):
        self.jobs[worker] = job

    def take(self, seconds):
        if self.fails:
            return [("w0", {"is": "failed", "reason": "no"})]
        if not self.stopped:  # one gets ready at a time
            new = next((w for w in self.jobs if w not in self.told), None)
            self.told.add(new)
            return [(new, {"is": "ready"})] if new else []
        steps = self.rates[self.size] * self.jobs["w0"].trial_seconds / self.size
        return [(w, {"is": "counted", "steps": steps, "memory": self.memory}) for w in self.jobs]

    def stop(self):
        assert self.told >= self.jobs.keys()
        self.stopped = True

    def close(self):
        self.closed = True


@pytest.fixture
def settle(new_ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(sizing, "_SECONDS", 0.01)
    trials, graphs = made_up_trials(8)
    with new_ledger.transaction():
        new_ledger.add_trials(trials, graphs)

    def run(rates, cores=4, is_stopping=lambda: False, **more):
        recorder = Recorder(tmp_path, new_ledger, RunSettings(workers=9, threads=9))
        pools = []

        def make_pool(size):
            pools.append(MadeUpPool(size, rates, **more))
            return pools[-1]

        said = sizing.choose_workers(recorder, make_pool, cores, is_stopping)
        assert all(pool.closed for pool in pools)
        tried = [(pool.size, pool.jobs["w0"].tasks[0].threads) for pool in pools]
        return recorder.settings, said, tried

    return run


def test_the_quickest_is_taken_and_kept(settle, new_ledger):
    settings, said, tried = settle({1: 10.0, 2: 18.0, 4: 12.0})
    assert (settings.workers, settings.threads) == (2, 2)
    assert tried == [(1, 4), (2, 2), (4, 1)]
    assert said.startswith("2 workers x 2 threads, by a trial")
    settings, said, tried = settle({})
    assert (settings.workers, settings.threads, said, tried) == (2, 2, None, [])
    settings, _, tried = settle({1: 1.0, 2: 3.0}, cores=2)  # another machine
    assert (settings.workers, tried) == (2, [(1, 2), (2, 1)])


def test_more_processes_have_to_gain_five_percent(settle):
    assert settle({1: 10.0, 2: 10.4, 4: 10.5})[0].workers == 1
    assert sizing.choose({1: 10.0, 2: 14.6, 4: 15.0}) == 2


def test_no_more_workers_than_the_memory_holds(settle, monkeypatch):
    monkeypatch.setattr(sizing, "free_memory", lambda device: 2.0e6)
    settings, _, tried = settle({1: 1.0, 2: 2.0, 4: 4.0})
    assert [size for size, _ in tried] == [1, 2]
    assert settings.workers == 2


def test_a_trial_that_cannot_train_changes_nothing(settle, new_ledger):
    settings, said, _ = settle({1: 1.0}, fails=True)
    assert (settings.workers, settings.threads, said) == (9, 9, None)
    settings, said, _ = settle({1: 1.0}, is_stopping=lambda: True)
    assert (settings.workers, said) == (9, None)
    assert new_ledger.setting("workers") is None


def test_a_study_sizes_its_workers_once(drivers, tmp_path):
    folder = tmp_path / "study"
    command = list(SMALL)
    del command[command.index("--threads") : command.index("--threads") + 2]
    command[command.index("--workers") + 1] = "auto"
    code, told = drivers.run(*command, "--seeds", 1, "--out", folder)
    assert code == 0, told
    assert "by a trial (workers: steps a second; 1: " in told
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert ledger.setting("workers")["rates"]["1"] > 0
        assert ledger.counts().done == 3
        assert all(row["attempts"] == 1 for row in ledger.trials())
    code, told = drivers.run("sweep", "--out", folder, "--workers", "auto", "--no-report")
    assert code == 0
    assert "by a trial" not in told


def made(tmp_path):
    from .test_populations import CONFIG

    path = tmp_path / "study"
    return Study.open(path) if path.exists() else Study.create(path, CONFIG)


def test_workers_that_are_no_number_are_refused(tmp_path):
    study = made(tmp_path)
    for wrong in (-1, "many", 1.5):
        with pytest.raises(InputError, match="workers is an integer of at least 0 or auto"):
            study.run(workers=wrong)
    for wrong in (0, 1025, "2"):
        with pytest.raises(
            InputError, match="threads is an integer of at least 1 and at most 1024"
        ):
            study.run(workers=1, threads=wrong)
    with pytest.raises(InputError, match="leave out threads"):
        study.run(workers="auto", threads=2)


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), "60", True])
def test_a_timeout_is_a_number_of_seconds(tmp_path, wrong):
    with pytest.raises(InputError, match="timeout is a number of seconds above 0"):
        made(tmp_path).run(workers=2, timeout=wrong)


def test_a_timeout_needs_workers_that_it_can_end(tmp_path):
    for how in ({"workers": 0}, {"workers": 2, "runner": Runner(name="ray")}):
        with pytest.raises(InputError, match="give --workers 1 or more without --runner"):
            made(tmp_path).run(timeout=60, **how)
