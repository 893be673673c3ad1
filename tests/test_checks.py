import os
from pathlib import Path

from mpnn_arch import checks


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
