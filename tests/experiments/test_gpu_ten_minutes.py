"""The script of a GPU's first ten minutes, as far as it needs none."""

import subprocess
import sys
from pathlib import Path

import pytest

import mpnn_arch

ROOT = Path(mpnn_arch.__file__).parent.parent


@pytest.fixture(scope="module")
def script():
    """The module, imported as the script finds it."""
    sys.path.insert(0, str(ROOT / "experiments/benchmarks"))
    try:
        yield pytest.importorskip("gpu_ten_minutes")
    finally:
        sys.path.pop(0)


def test_its_tests_are_those_of_a_device(script):
    """The test of the interpreter alone would take the time of all others."""
    tests = str(ROOT / "tests/kernels/test_triton.py")
    command = [sys.executable, "-c", script.TESTS, "1", "2", "--collect-only"]
    said, _ = script.output([*command, *script.OPTIONS[1:], tests], 300)
    chosen = [line for line in said.splitlines() if "::" in line]
    assert len(chosen) > 40
    assert not any("interpreter" in line for line in chosen)


def test_what_takes_too_long_is_ended_and_what_it_said_is_kept(script):
    code = "import time; print('so far', flush=True); time.sleep(60)"
    assert script.output([sys.executable, "-c", code], 5) == ("so far", True)


def test_a_part_adds_to_the_receipt_of_those_before(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "machine", lambda device: {"device": device})
    first = script.Receipt(tmp_path)
    first.begin()
    first.add("tests", "IEEE", "passed", 3, "")
    second = script.Receipt(tmp_path)
    second.add("step", "mlp, batch 4", "ring", "1.5", "us")
    lines = (tmp_path / "gpu.csv").read_text().splitlines()
    assert lines == [
        "what,case,name,value,unit",
        "tests,IEEE,passed,3,",
        'step,"mlp, batch 4",ring,1.5,us',
    ]
    script.Receipt(tmp_path).begin()
    assert not (tmp_path / "gpu.csv").exists()


def test_a_part_that_fails_is_a_row(script, tmp_path, monkeypatch):
    def fails(receipt):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(script.PARTS, "error", (fails, 1))
    receipt = script.Receipt(tmp_path)
    script.run_part(receipt, "error")
    assert receipt.rows[-1]["name"] == "failed"
    assert "illegal memory access" in receipt.rows[-1]["value"]


def test_a_grouped_product_is_compared_where_it_is_possible(script):
    """All nodes of its graph receive as many channels."""
    ((density, width),) = [r for r in script.ROUNDS if r[1] == script.REGULAR]
    shares = [width // script.NODES] * script.NODES
    plan = script.make_plan(script.regular_graph().edge_index, shares, shares)
    assert len(plan.fan_in.unique()) == 1
    assert plan.num_weights / width**2 == pytest.approx(density, abs=0.01)


def test_kernels_compiled_ahead_lie_in_tritons_cache(script, tmp_path, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    code = (
        "import gpu_ten_minutes as script, gpu_builds\n"
        "three = gpu_builds.products\n"
        "gpu_builds.products = lambda *case: [next(three(*case))]\n"
        "print(script.compile_ahead(80, 'bf16', (0.14, 512, 16)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT / "experiments/benchmarks",
        check=True,
    )
    assert int(done.stdout) > 2
    assert list(tmp_path.rglob("*.cubin"))
