"""A small real study on a Ray cluster and under submitit ends as on this machine, faults or not."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import warnings

import pytest

from mpnn_arch import InputError
from mpnn_arch.studies import Study, StudyConfig
from mpnn_arch.studies.ledger import Ledger
from mpnn_arch.studies.runners import Runner
from mpnn_arch.training.config import TrainingConfig

from .conftest import rows_of, weights_of

pytestmark = pytest.mark.cluster

CONFIG = StudyConfig(
    model="mlp",
    dataset="digits",
    graphs=("ws_flex:8,4,0.2,0", "ring:8,2", "complete:8"),
    seeds=(0, 1),
    training=TrainingConfig(epochs=3),
    train_images=100,
    test_images=50,
    width_multiplier=0.125,
    backend="gather",
    weights="all",
)
HOW = {"workers": 2, "threads": 1, "device": "cpu", "population": "off"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    study = Study.create(tmp_path_factory.mktemp("local") / "study", CONFIG)
    study.run(**HOW)
    return rows_of(study.path), weights_of(study.path)


def check_whole(folder, undisturbed):
    rows, weights = undisturbed
    assert rows_of(folder) == rows
    assert weights_of(folder) == weights
    assert not list((folder / "checkpoints").iterdir())
    assert not (folder / "submitted").exists()
    with Ledger(folder / "ledger.sqlite") as ledger:
        (row,) = ledger.query("PRAGMA integrity_check")
        assert row[0] == "ok"


# -- Ray --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """A head with a place for one worker; tests add nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "120")
        cluster_utils = pytest.importorskip("ray.cluster_utils")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = cluster_utils.Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 1,
                    "include_dashboard": False,
                    **ports(),
                },
            )
        yield made
        made.shutdown()


def ports():
    """Free ones: on a busy machine Ray gives up before its agents have found theirs."""
    names = (
        "metrics_agent_port",
        "dashboard_agent_listen_port",
        "metrics_export_port",
        "runtime_env_agent_port",
    )
    sockets = [socket.socket() for _ in names]
    for made in sockets:
        made.bind(("127.0.0.1", 0))
    found = {name: made.getsockname()[1] for name, made in zip(names, sockets, strict=True)}
    for made in sockets:
        made.close()
    return found


@pytest.fixture
def second_node(cluster):
    node = cluster.add_node(num_cpus=1, **ports())
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


LONGER = dataclasses.replace(CONFIG, training=TrainingConfig(epochs=60))


def test_a_killed_node_changes_nothing(cluster, second_node, tmp_path):
    alone = Study.create(tmp_path / "alone", LONGER)
    alone.run(**HOW)
    study, events, seen = Study.create(tmp_path / "study", LONGER), [], {}

    def watch(event):
        events.append(event)
        if event["is"] == "epoch":
            seen.setdefault(event["id"], []).append(event["metrics"]["epoch"])
        # Both workers are in the middle of a trial.
        running = [trial for trial, epochs in seen.items() if 3 <= max(epochs) < 50]
        if len(running) == 2 and not killed:
            killed.append(True)
            second_node.kill_raylet()  # SIGKILL; its worker ends with it

    killed = []
    counts = study.run(**HOW, runner=Runner(name="ray", ray_address=cluster.address), watch=watch)
    assert killed
    assert counts.done == 6
    (failed,) = [event for event in events if event["is"] == "failed"]
    assert "its Ray worker was lost" in failed["reason"]
    assert not failed["given_up"]
    check_whole(study.path, (rows_of(alone.path), weights_of(alone.path)))


@pytest.mark.parametrize("shared", [True, False])
def test_killed_workers_with_and_without_a_shared_disk(
    cluster, undisturbed, tmp_path, monkeypatch, shared
):
    from mpnn_arch.studies import ray_pool

    once = tmp_path / "it_happened"
    monkeypatch.setenv("MPNN_ARCH_CRASH", "checkpoint.written:2")
    monkeypatch.setenv("MPNN_ARCH_CRASH_ONCE", str(once))
    found = []

    class Pool(ray_pool.RayPool):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more, shared=None if shared else False)
            found.append(self)

    monkeypatch.setattr(ray_pool, "RayPool", Pool)
    events = []
    study = Study.create(tmp_path / "study", CONFIG)
    study.run(**HOW, runner=Runner(name="ray", ray_address=cluster.address), watch=events.append)
    assert once.exists()
    (failed,) = [event for event in events if event["is"] == "failed"]
    assert "its Ray worker was lost" in failed["reason"]
    assert not failed["given_up"]
    check_whole(study.path, undisturbed)


def test_a_killed_driver_goes_on_where_it_was(cluster, undisturbed, tmp_path):
    study = Study.create(tmp_path / "study", CONFIG)
    command = [
        sys.executable, "-m", "mpnn_arch", "sweep", "--out", str(study.path), "--runner", "ray",
        "--ray-address", cluster.address, "--workers", "2", "--threads", "1", "--device", "cpu",
        "--no-report",
    ]  # fmt: skip
    killed = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "MPNN_ARCH_CRASH": "ledger.committed:4"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "goes on after process" in done.stderr
    assert "INFO" not in done.stderr + done.stdout  # Ray is quiet
    check_whole(study.path, undisturbed)


def test_no_cluster_at_an_address_is_one_sentence(cluster, tmp_path):
    study = Study.create(tmp_path / "study", CONFIG)
    with pytest.raises(InputError, match="no machine of the Ray cluster has 64 CPUs"):
        study.run(workers=1, threads=64, runner=Runner(name="ray", ray_address=cluster.address))
    assert study.counts().queued == 6


# -- submitit ---------------------------------------------------------------------------------


# A job imports torch anew, which takes longer than a trial.
PAIR = dataclasses.replace(CONFIG, graphs=("ring:8,2", "complete:8"), seeds=(0,))


@pytest.fixture(scope="module")
def undisturbed_pair(tmp_path_factory):
    study = Study.create(tmp_path_factory.mktemp("local") / "pair", PAIR)
    study.run(**HOW)
    return rows_of(study.path), weights_of(study.path)


@pytest.fixture
def local_jobs():
    pytest.importorskip("submitit")
    return Runner(name="submitit", cluster="local")


def test_jobs_of_submitit(local_jobs, undisturbed_pair, tmp_path):
    study = Study.create(tmp_path / "study", PAIR)
    counts = study.run(**HOW, runner=local_jobs)
    assert counts.done == 2
    check_whole(study.path, undisturbed_pair)


def test_a_killed_job_is_tried_again(local_jobs, undisturbed_pair, tmp_path, monkeypatch):
    once = tmp_path / "it_happened"
    monkeypatch.setenv("MPNN_ARCH_CRASH", "journal.written:2")
    monkeypatch.setenv("MPNN_ARCH_CRASH_ONCE", str(once))
    events = []
    study = Study.create(tmp_path / "study", PAIR)
    study.run(**HOW, runner=local_jobs, watch=events.append)
    assert once.exists()
    (failed,) = [event for event in events if event["is"] == "failed"]
    assert failed["reason"].startswith("its job ")
    check_whole(study.path, undisturbed_pair)


def test_ctrl_c_ends_jobs_soon(local_jobs, undisturbed_pair, tmp_path):
    study = Study.create(tmp_path / "study", PAIR)
    command = [
        sys.executable, "-m", "mpnn_arch", "sweep", "--out", str(study.path), "--runner",
        "submitit", "--cluster", "local", "--workers", "2", "--threads", "1", "--device", "cpu",
        "--no-report",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 300
    while not study.counts().epochs_done and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "to continue: mpnn-arch sweep" in told
    counts = study.counts()
    assert counts.running == counts.failed == 0
    study.run(**HOW)
    check_whole(study.path, undisturbed_pair)


def test_what_submitit_refuses_is_one_sentence(tmp_path):
    pytest.importorskip("submitit")
    study = Study.create(tmp_path / "study", PAIR)
    with pytest.raises(InputError, match="submitit refuses that"):
        study.run(**HOW, runner=Runner(name="submitit", cluster="local", job={"nonsense": "1"}))
