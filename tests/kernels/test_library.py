"""Which library of kernels is loaded and why, and on whose threads it runs."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.native import build, library, prebuilt, threads

from .test_cpu_build import BITS, USE, run

needs_kernels = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of prebuilt libraries on Linux, empty."""
    folder = tmp_path / "prebuilt"
    folder.mkdir()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("MPNN_ARCH_KERNELS", raising=False)
    return folder


def processor(monkeypatch: pytest.MonkeyPatch, machine: str, capability: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


@pytest.mark.parametrize(
    ("machine", "capability", "chosen"),
    [
        ("x86_64", "AVX512", "x86_64_v4.so"),
        ("AMD64", "AVX2", "x86_64_v3.so"),
        ("x86_64", "DEFAULT", None),
        ("aarch64", "DEFAULT", "aarch64.so"),
        ("arm64", "SVE256", "aarch64.so"),
        ("ppc64le", "VSX", None),
    ],
)
def test_the_fastest_that_the_processor_runs(
    carried: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    capability: str,
    chosen: str | None,
) -> None:
    for name in ("x86_64_v3", "x86_64_v4", "aarch64"):
        (carried / f"{name}.so").touch()
    processor(monkeypatch, machine, capability)
    path, why = prebuilt.find_prebuilt(carried)
    assert path == (None if chosen is None else carried / chosen)
    assert ("no kernels are prebuilt for this machine" in why) == (chosen is None)


def test_without_the_fastest_the_next(carried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (carried / "x86_64_v3.so").touch()
    processor(monkeypatch, "x86_64", "AVX512")
    assert prebuilt.find_prebuilt(carried)[0] == carried / "x86_64_v3.so"
    for suffix, system in ((".dylib", "darwin"), (".dll", "win32")):
        monkeypatch.setattr(sys, "platform", system)
        assert prebuilt.find_prebuilt(carried)[0] is None
        shutil.copy(carried / "x86_64_v3.so", carried / f"x86_64_v3{suffix}")
        assert prebuilt.find_prebuilt(carried)[0] == carried / f"x86_64_v3{suffix}"


def test_a_copy_of_the_repository_says_that_it_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, "x86_64", "AVX2")
    path, why = prebuilt.find_prebuilt(tmp_path / "absent")
    assert path is None
    assert why == "this copy of the package carries no prebuilt kernels"


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library, as a file."""
    build.load_library()
    _, name = build._flags_and_name(build._compiler())  # there may be those of other versions
    return Path(os.environ["MPNN_ARCH_CACHE"]) / name


@needs_kernels
def test_a_prebuilt_library_is_used_and_nothing_compiled(
    carried: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = prebuilt.families()[0][0]
    shutil.copy(own, carried / f"{family}.so")
    monkeypatch.setattr(library, "find_prebuilt", lambda: prebuilt.find_prebuilt(carried))
    monkeypatch.setattr(build, "load_library", lambda: pytest.fail("it compiled"))
    kernels = library.load_kernels.__wrapped__()
    assert kernels.origin.startswith(f"prebuilt for {family}: the processor")
    assert kernels.library.places_f32() > 0


@needs_kernels
def test_a_broken_prebuilt_library_gives_way_to_the_compiler(
    carried: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (carried / f"{prebuilt.families()[0][0]}.so").write_text("no library")
    monkeypatch.setattr(library, "find_prebuilt", lambda: prebuilt.find_prebuilt(carried))
    origin = library.load_kernels.__wrapped__().origin
    assert origin.startswith("compiled on this machine: the kernels in ")
    assert "do not load" in origin


@needs_kernels
def test_the_variable_names_a_library(
    carried: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Path(shutil.copy(own, carried / "named.so"))
    monkeypatch.setenv("MPNN_ARCH_KERNELS", str(named))
    assert library.load_kernels.__wrapped__().origin == f"{named}, as MPNN_ARCH_KERNELS says"
    monkeypatch.setenv("MPNN_ARCH_KERNELS", str(carried / "absent.so"))
    with pytest.raises(build.BuildError, match="do not load"):
        library.load_kernels.__wrapped__()
    monkeypatch.setenv("MPNN_ARCH_KERNELS", "compile")
    assert library.load_kernels.__wrapped__().origin.startswith("compiled on this machine, as")


def test_without_either_both_reasons_are_given(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "find_prebuilt", lambda: (None, "none is prebuilt"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.BuildError, match=r"none is prebuilt, and .*no-such-compiler"):
        library.load_kernels.__wrapped__()


# In a process of its own: other packages, such as scikit-learn, load runtimes of their own.
_ONE_RUNTIME = """
import torch
from mpnn_arch import RelationalLinear
from mpnn_arch.kernels import cpu

print(cpu.describe())
RelationalLinear("ring:8", 64, 64, backend="cpu")(torch.ones(256, 64))
maps = open("/proc/self/maps").read().splitlines()
print(len({line.split()[-1] for line in maps if "libgomp" in line}))
"""


@needs_kernels
def test_torch_has_a_runtime_and_its_threads_are_used() -> None:
    if "OpenMP" not in torch.__config__.parallel_info().split("ATen parallel backend:")[-1]:
        pytest.skip("this torch runs without OpenMP")
    run = subprocess.run(
        [sys.executable, "-c", _ONE_RUNTIME], check=True, capture_output=True, text=True
    )
    described, runtimes = run.stdout.strip().splitlines()
    assert "torch's OpenMP threads (GOMP_parallel)" in described
    # The kernels' region and torch's own are of one runtime, whose library is loaded once.
    assert int(runtimes) <= 1


class Recorder:
    """A library that records which threads it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int | None]]] = []

    def __getattr__(self, name: str) -> object:
        return lambda *given: self.calls.append((name, [pointer.value for pointer in given]))


class Runtime:
    """An OpenMP runtime with these functions."""

    def __init__(self, *names: str) -> None:
        for name in names:
            setattr(self, name, ctypes.CFUNCTYPE(None)(lambda: None))


@pytest.mark.parametrize("use", ["use_gomp", "use_kmpc"])
def test_either_interface_of_a_runtime_is_found(use: str) -> None:
    names = threads._INTERFACES[use]
    recorder, runtime = Recorder(), Runtime(*names)
    said = threads.share_threads(recorder, runtime)
    expected = [ctypes.cast(getattr(runtime, name), ctypes.c_void_p).value for name in names]
    assert recorder.calls == [(use, expected)]
    assert names[0] in said
    # One function short, it is no runtime.
    recorder = Recorder()
    assert "started for each call" in threads.share_threads(recorder, Runtime(*names[:-1]))
    assert recorder.calls == [("use_own_threads", [])]


OWN = """
from mpnn_arch.kernels.native import threads
threads._of_torch = lambda: None
"""


@needs_kernels
def test_threads_of_our_own_give_the_same_bits() -> None:
    expected = json.loads(run(BITS, "1"))
    for count in ("2", "3"):
        assert json.loads(run(OWN + BITS, count)) == expected
    assert len(expected) > 50


FORK = """
import os
torch.set_num_threads(2)
x, w = torch.ones(50, 6), torch.ones(18)
cpu.linear_forward(x, w, plan)  # the team of this process
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(cpu.linear_forward(x, w, plan), torch.full((50, 6), 3.0)) else 1)
assert os.waitpid(child, 0)[1] == 0
print("forked")
"""


@needs_kernels
def test_threads_of_our_own_survive_a_fork() -> None:
    assert run(OWN + USE + FORK).splitlines() == ["worked", "forked"]


FORKED = """
import os, signal
import torch
from torch import nn
from mpnn_arch import RelationalConv2d, RelationalLinear

torch.set_num_threads(2)
layers = {
    "a matrix": nn.Linear(256, 256),
    "masked": RelationalLinear("ring:8,4", 256, 256, backend="masked"),
    "kernels": RelationalLinear("ring:8,4", 256, 256, backend=BACKEND),
    "maps": RelationalConv2d("ring:8,4", 16, 16, 3, backend=BACKEND),
}
for name, layer in layers.items():
    x = torch.ones(32, 16, 32, 32) if name == "maps" else torch.ones(512, 256)
    expected = layer(x)
    expected.sum().backward()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        out = layer(x)
        out.sum().backward()
        os._exit(0 if torch.equal(out, expected) else 1)
    print(name, os.waitpid(child, 0)[1])
    assert torch.equal(layer(x), expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_computes_with_the_threads_that_its_parent_had() -> None:
    backend = "cpu" if cpu.is_available() else "gather"
    said = run(f"BACKEND = {backend!r}" + FORKED)
    assert said.splitlines() == ["a matrix 0", "masked 0", "kernels 0", "maps 0"]


def test_the_team_is_ended_by_gnus_runtime_only(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Runtime("omp_pause_resource_all", "__kmpc_fork_call")
    for runtime, ended in ((Runtime("omp_pause_resource_all"), True), (both, False), (None, False)):
        monkeypatch.setattr(threads, "_of_torch", lambda runtime=runtime: runtime)
        assert (threads._end_of_team.__wrapped__() is not None) == ended
