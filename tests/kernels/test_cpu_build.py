"""Building the kernels: no compiler, a broken one, two processes, a read-only cache, threads.

Each case runs in a separate process, as a loaded library stays loaded. Two of them compile.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mpnn_arch.kernels import cpu

REPOSITORY = Path(__file__).parents[2]
needs_kernels = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())

USE = """
import torch
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.plan import make_plan
plan = make_plan(torch.tensor([[0, 1], [0, 1]]), [3, 3], [3, 3])
assert cpu.is_available(), cpu.unavailable_reason()
y = cpu.linear_forward(torch.ones(5, 6), torch.ones(18), plan)
assert torch.equal(y, torch.full((5, 6), 3.0))
print("worked")
"""

REFUSE = """
import warnings
import torch
from mpnn_arch.errors import InputError
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.plan import make_plan
plan = make_plan(torch.tensor([[0, 1], [0, 1]]), [3, 3], [3, 3])
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for _ in range(3):
        assert not cpu.is_available()
        try:
            cpu.linear_forward(torch.ones(5, 6), torch.ones(18), plan)
        except InputError as error:
            assert cpu.unavailable_reason() in str(error)
        else:
            raise AssertionError("it ran")
assert len(warned) == 1, warned
print(cpu.unavailable_reason())
"""

BITS = """
import hashlib, sys
import torch
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.plan import make_plan
torch.set_num_threads(int(sys.argv[1]))
generator = torch.Generator().manual_seed(0)
edges = (torch.rand(12, 12, generator=generator) < 0.4).fill_diagonal_(True).nonzero().T
plan = make_plan(edges.flip(0), [5, 6] * 6, [7, 4, 20] * 4)
geometry = (2, 1), (1, 1), (1, 1)
digest = hashlib.sha256()
for dtype in (torch.float32, torch.float64):
    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)
    w, kernels = draw(plan.num_weights), draw(plan.num_weights, 3, 3)
    for batch in (1, 3, 33, 96, 1500):
        x, grad = draw(batch, plan.in_channels), draw(batch, plan.out_channels)
        results = [
            cpu.linear_forward(x, w, plan),
            cpu.linear_grad_input(grad, w, plan),
            cpu.linear_grad_weight(grad, x, plan),
        ]
        if batch <= 33:
            x = draw(batch, plan.in_channels, 9, 7)
            y = cpu.conv2d_forward(x, kernels, plan, *geometry)
            results += [
                y,
                cpu.conv2d_grad_input(y, kernels, plan, x.shape, *geometry),
                cpu.conv2d_grad_weight(y, x, plan, (3, 3), *geometry),
            ]
        for tensor in results:
            digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


def environment(**changes: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **changes}


def run(code: str, *arguments: str, **changes: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_compiler(tmp_path: Path) -> None:
    reason = run(REFUSE, PATH=str(tmp_path), CXX="", MPNN_ARCH_CACHE=str(tmp_path / "cache"))
    assert "no C++ compiler g++" in reason


def test_compiler_that_fails(tmp_path: Path) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "error: no" >&2; exit 1; }\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    cache = tmp_path / "cache"
    reason = run(REFUSE, CXX=str(compiler), MPNN_ARCH_CACHE=str(cache))
    assert "error: no" in reason
    assert [path.name for path in cache.iterdir()] == ["build.lock"]


@needs_kernels
def test_two_processes_at_once_compile_once(tmp_path: Path) -> None:
    """The compiler counts its calls: one process compiles, the other waits and loads."""
    real = os.environ.get("CXX") or "g++"
    tally, compiler, cache = tmp_path / "tally", tmp_path / "counted", tmp_path / "cache"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {tally}\nexec {real} "$@"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    settings = environment(CXX=str(compiler), MPNN_ARCH_CACHE=str(cache))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", USE], env=settings, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=300)[0].strip() for process in both] == ["worked"] * 2
    links = [line for line in tally.read_text().splitlines() if "-shared" in line]
    assert len(links) == 1
    assert len(list(cache.glob("*.so"))) == 1

    # The finished library also loads where nothing can be written any more, and where the lock
    # cannot be taken.
    lock = cache / "build.lock"
    lock.unlink()
    lock.mkdir()
    assert run(USE, CXX=str(compiler), MPNN_ARCH_CACHE=str(cache)) == "worked"
    assert len([line for line in tally.read_text().splitlines() if "-shared" in line]) == 1


@needs_kernels
def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A file in place of the directory blocks even root: a temporary directory is used."""
    (tmp_path / "cache").write_text("")
    assert run(USE, MPNN_ARCH_CACHE=str(tmp_path / "cache" / "below")) == "worked"
    assert (tmp_path / "cache").read_text() == ""


@needs_kernels
def test_one_and_two_threads_give_the_same_bits() -> None:
    digests = {run(BITS, threads) for threads in ("1", "2", "3")}
    assert len(digests) == 1
