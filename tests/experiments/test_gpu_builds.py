"""Compiling for several GPUs in one process."""

import subprocess
import sys
from pathlib import Path

import pytest

import mpnn_arch

FOLDER = Path(mpnn_arch.__file__).parent.parent / "experiments/benchmarks"
BUILD = """
import gpu_builds
one = {"aligned": gpu_builds.CASES["aligned"]}
three = gpu_builds.products
gpu_builds.products = lambda *case: [next(three(*case))]
for arch in (80, 90):
    (row,) = gpu_builds.build(arch, "bf16", one, every=False)
    print(row["error"] or row["code"])
"""


def test_every_architecture_has_code_of_its_own():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", BUILD], capture_output=True, text=True, cwd=FOLDER, check=True
    )
    first, second = done.stdout.splitlines()
    assert first != second
