"""What is taken of a machine that this process may not use whole."""

import os

import pytest
import torch

from mpnn_arch.studies.runners import Runner
from mpnn_arch.training import control_groups
from mpnn_arch.training.cores import available_cores
from mpnn_arch.training.devices import free_memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes a process's control groups and the files in their folders, on 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(control_groups, "_MOUNT", tmp_path / "mount")
    monkeypatch.setattr(control_groups, "_GROUPS", tmp_path / "groups")

    def write(lines, **files):
        (tmp_path / "groups").write_text("\n".join(lines))
        for path, text in files.items():
            file = tmp_path / "mount" / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return write


def write_v1(groups, folder, quota):
    prefix = folder.replace("/", "__")
    groups(
        ["5:memory:/a", "1:cpu,cpuacct:/docker/1f"],
        **{f"{prefix}__cpu.cfs_quota_us": str(quota), f"{prefix}__cpu.cfs_period_us": "100000"},
    )


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("?", 64)],
)
def test_a_quota_of_time_is_a_number_of_cores(groups, limit, expected):
    groups(["0::/"], **{"cpu.max": limit})
    assert available_cores() == expected


def test_the_least_quota_of_all_groups_above_counts(groups):
    groups(["0::/pod/box"], **{"pod__box__cpu.max": "800000 100000"})
    assert available_cores() == 8
    groups(["0::/pod/box"], **{"pod__cpu.max": "300000 100000"})
    assert available_cores() == 3


@pytest.mark.parametrize("folder", ["cpu,cpuacct/docker/1f", "cpu,cpuacct"])
def test_control_groups_of_version_1_count_seen_from_outside_or_within(groups, folder):
    write_v1(groups, folder, 400000)
    assert available_cores() == 4
    write_v1(groups, folder, -1)
    assert available_cores() == 64


def test_the_affinity_counts_and_systems_without_groups_have_no_quota(groups, monkeypatch):
    assert available_cores() == 64  # no such file
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5})
    assert available_cores() == 1


def test_workers_and_threads_follow(groups):
    groups(["0::/"], **{"cpu.max": "200000 100000"})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)  # as torch found it: it knows of no quota
        for workers, expected in ((None, (2, 1)), (1, (1, 2)), (0, (0, 2))):
            settings = Runner().settings(workers=workers, threads=None, device="cpu")
            assert (settings.workers, settings.threads) == expected
        settings = Runner().settings(workers=0, threads=4, device="cpu")
        assert settings.threads == 4
    finally:
        torch.set_num_threads(before)


def test_memory_is_free_up_to_the_limit_of_a_group_and_files_that_were_read_count_as_free(groups):
    groups([])
    free = free_memory(torch.device("cpu"))
    if free is None:
        pytest.skip("the system does not say how much memory is free")
    stat = "anon 700\ninactive_file 250\n"
    limit = {"a__memory.max": "1000", "a__memory.current": "900", "a__memory.stat": stat}
    groups(["0::/a/b"], **limit, **{"a__b__memory.max": "max", "a__b__memory.current": "5"})
    assert free_memory(torch.device("cpu")) == 1000 - (900 - 250)
    groups(
        ["4:memory:/a"],
        **{
            "memory__a__memory.limit_in_bytes": "500",
            "memory__a__memory.usage_in_bytes": "600",
        },
    )
    assert free_memory(torch.device("cpu")) == 0
