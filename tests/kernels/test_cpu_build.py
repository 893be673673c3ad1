"""Building the kernels: no compiler, a broken one, two processes, a read-only cache, threads.

Each case runs in a separate process, as a loaded library stays loaded. Two of them compile.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mpnn_arch.kernels import cpu

REPOSITORY = Path(__file__).parents[2]
UNOPTIMISED = "-O0"  # a third of the time, where it matters only that a library is built
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
import hashlib, json, sys
import torch
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.plan import make_plan
torch.set_num_threads(int(sys.argv[1]))
generator = torch.Generator().manual_seed(0)
edges = (torch.rand(12, 12, generator=generator) < 0.4).fill_diagonal_(True).nonzero().T
plan = make_plan(edges.flip(0), [5, 6] * 6, [7, 4, 20] * 4)
geometry = (2, 1), (1, 1), (1, 1)
digests = {}
for dtype in (torch.float32, torch.float64):
    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)
    w, kernels = draw(plan.num_weights), draw(plan.num_weights, 3, 3)
    for batch in (1, 3, 33, 96, 1500):
        x, grad = draw(batch, plan.in_channels), draw(batch, plan.out_channels)
        results = {
            "drawn": torch.cat([x.flatten(), grad.flatten()]),
            "linear_forward": cpu.linear_forward(x, w, plan),
            "linear_grad_input": cpu.linear_grad_input(grad, w, plan),
            "linear_grad_weight": cpu.linear_grad_weight(grad, x, plan),
            "linear_grads": torch.cat([
                t.flatten() for t in cpu.linear_grads(grad, x, w, plan, grad.flip(0), True)
            ]),
        }
        if batch <= 33:
            x = draw(batch, plan.in_channels, 9, 7)
            y = cpu.conv2d_forward(x, kernels, plan, *geometry)
            results |= {
                "maps drawn": x,
                "conv2d_forward": y,
                "conv2d_grad_input": cpu.conv2d_grad_input(y, kernels, plan, x.shape, *geometry),
                "conv2d_grad_weight": cpu.conv2d_grad_weight(y, x, plan, (3, 3), *geometry),
            }
        for name, tensor in results.items():
            digest = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
            digests[f"{name}, {dtype}, batch {batch}"] = digest
print(json.dumps(digests))
"""


def has_avx2() -> bool:
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


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


def compiler_with(folder: Path, options: str, first: str = "") -> str:
    """The compiler with more options, and a command before it runs."""
    real, path = os.environ.get("CXX") or "g++", folder / "compiler"
    path.write_text(f'#!/bin/sh\n{first}\nexec {real} "$@" {options}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_no_compiler(tmp_path: Path) -> None:
    reason = run(REFUSE, PATH=str(tmp_path), CXX="", MPNN_ARCH_CACHE=str(tmp_path / "cache"))
    assert "no C++ compiler g++" in reason
    reason = run(REFUSE, CXX="no-such 'compiler", MPNN_ARCH_CACHE=str(tmp_path / "cache"))
    assert "no C++ compiler no-such 'compiler" in reason


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
    tally, cache = tmp_path / "tally", tmp_path / "cache"
    compiler = compiler_with(tmp_path, UNOPTIMISED, first=f'echo "$@" >> {tally}')
    compiler = f"env -u NO_SUCH_VARIABLE {compiler}"  # of several words
    settings = environment(CXX=compiler, MPNN_ARCH_CACHE=str(cache))
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
    assert run(USE, CXX=compiler, MPNN_ARCH_CACHE=str(cache)) == "worked"
    assert len([line for line in tally.read_text().splitlines() if "-shared" in line]) == 1


@needs_kernels
def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A file in place of the directory blocks even root: a temporary directory is used."""
    (tmp_path / "cache").write_text("")
    compiler = compiler_with(tmp_path, UNOPTIMISED)
    cache = str(tmp_path / "cache" / "below")
    assert run(USE, CXX=compiler, MPNN_ARCH_CACHE=cache) == "worked"
    assert (tmp_path / "cache").read_text() == ""


# GCC does not fuse every sum where it tunes for these processors.
TUNING = "-mno-avx512f -mtune=znver3"


@needs_kernels
@pytest.mark.parametrize("tuning", ["", TUNING], ids=["as built", "avx2 of znver3"])
def test_one_and_two_threads_give_the_same_bits(tuning: str, tmp_path: Path) -> None:
    changes: dict[str, str] = {}
    if tuning:
        compiler = compiler_with(tmp_path, tuning)
        (tmp_path / "empty.cpp").write_text("")
        probe = [compiler, "-c", str(tmp_path / "empty.cpp"), "-o", str(tmp_path / "empty.o")]
        if subprocess.run(probe, capture_output=True).returncode or not has_avx2():
            pytest.skip("no AVX2 here, or a compiler without this tuning")
        changes = {"CXX": compiler, "MPNN_ARCH_CACHE": str(tmp_path / "cache")}
    expected, *others = (json.loads(run(BITS, threads, **changes)) for threads in ("1", "2", "3"))
    for threads, digests in enumerate(others, start=2):
        differing = [name for name, digest in digests.items() if digest != expected[name]]
        assert not differing, f"{threads} threads give other bits than 1: {differing}"
        assert len(digests) == len(expected) > 50
