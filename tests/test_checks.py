import os
from pathlib import Path

import pytest

from mpnn_arch import checks, graphs
from mpnn_arch.errors import InputError
from mpnn_arch.studies import Study
from mpnn_arch.studies.listeners import JSONLines, TensorBoard


def test_memory_is_the_least_of_machine_and_container_and_need_not_be_known(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 2**20, raising=False)
    files = {"memory.max": "max\n", "memory.limit_in_bytes": f"{2**30}\n"}

    def read(path):
        if path.name not in files:
            raise FileNotFoundError(path)
        return files[path.name]

    monkeypatch.setattr(Path, "read_text", read)
    asked = checks.host_memory.__wrapped__
    assert asked() == 2**30
    files["meminfo"] = "MemTotal: 9 kB\nMemAvailable: 7 kB\n"
    assert checks.memory_limit() == 7 * 1024
    files.clear()
    assert asked() == 2**40
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert asked() is None


def test_one_is_singular():
    assert [checks.counted(number, "seed") for number in (0, 1, 2, 1234)] == [
        "0 seeds",
        "1 seed",
        "2 seeds",
        "1,234 seeds",
    ]


def test_an_empty_path_is_refused_by_studies_and_sweeps():
    # Path("") is the current folder, which then would be read or written.
    for call in (
        Study.open,
        JSONLines,
        TensorBoard,
        lambda path: graphs.sweep_design_space("ring", 8, {"degree": [2]}, out=path),
    ):
        with pytest.raises(InputError, match="the path is empty"):
            call("")
