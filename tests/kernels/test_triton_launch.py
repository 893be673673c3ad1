"""How the Triton kernels are launched, without a device: a stand-in plays its part."""

import contextlib
import ctypes
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mpnn_arch import graphs
from mpnn_arch.errors import InputError
from mpnn_arch.kernels import capture, triton_choices, triton_configs, triton_launch, triton_tables
from mpnn_arch.kernels import triton as backend
from mpnn_arch.kernels.dispatch import machines
from mpnn_arch.kernels.plan import make_plan

CONFIGS = [{"BLOCK_B": 16}, {"BLOCK_B": 32}, {"BLOCK_B": 64}]
KEY = ("linear_product", False, "ieee")


@pytest.fixture
def device(monkeypatch, tmp_path):
    """A CUDA device that is not there; the second configuration is the fastest."""
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(tmp_path))
    state = SimpleNamespace(capturing=False, timed=0, folder=tmp_path / "choices")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Stand-in")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    monkeypatch.setattr(triton_launch, "_UNTIMED", {})
    monkeypatch.setattr(capture, "_driver", lambda: None)
    testing = pytest.importorskip("triton.testing")

    def do_bench(run, warmup, rep):
        state.timed += 1
        return {16: 3.0, 32: 1.0, 64: 2.0}[run()]

    monkeypatch.setattr(testing, "do_bench", do_bench)
    triton_choices.forget()
    yield state
    triton_choices.forget()


@pytest.fixture
def x():
    return SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0))


def run(config):
    return config["BLOCK_B"]


def test_a_trial_runs_once_and_its_choice_outlives_the_process(device, x):
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 32
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 32
    assert device.timed == 3
    triton_choices.forget()  # another process
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 32
    assert device.timed == 3
    assert triton_launch.launch(run, CONFIGS, x, (*KEY, 1)) == 32
    assert device.timed == 6


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tiles": 3}', '{"tiles": {"BLOCK_B": 7}}'])
def test_a_damaged_or_foreign_choice_is_timed_again(device, x, content):
    triton_launch.launch(run, CONFIGS, x, KEY)
    (path,) = device.folder.glob("tiles-*.json")
    assert json.loads(path.read_text())["tiles"] == {"BLOCK_B": 32}
    path.write_text(content)
    triton_choices.forget()
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 32
    assert device.timed == 6


def test_deterministic_mode_does_not_use_what_was_timed(device, x, monkeypatch):
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 32
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 16


def test_under_capture_nothing_is_timed(device, x):
    device.capturing = True
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 16
    assert device.timed == 0
    device.capturing = False
    triton_launch.launch(run, CONFIGS, x, KEY)
    device.capturing = True
    assert triton_launch.launch(run, CONFIGS, x, KEY) == 32


def test_where_a_trial_finds_no_memory_the_first_tiles_are_used(device, x, monkeypatch):
    """A trial takes 256 MB of its own; the launch itself may have enough."""
    timed = triton_launch.launch(run, CONFIGS, x, KEY)

    def do_bench(run, warmup, rep):
        raise torch.OutOfMemoryError("CUDA out of memory")

    testing = pytest.importorskip("triton.testing")
    with monkeypatch.context() as patch:
        patch.setattr(testing, "do_bench", do_bench)
        assert triton_launch.launch(run, CONFIGS, x, (*KEY, 2)) == 16
    assert triton_launch.launch(run, CONFIGS, x, (*KEY, 2)) == timed == 32


def test_more_pixels_than_32_bits_count_are_refused():
    def maps(*shape, **how):
        return torch.empty(*shape, device="meta", **how)

    check = triton_launch.check_addresses
    check(2**30, maps(2, 128, 2**12, 2**12))
    with pytest.raises(InputError, match="have 2147483648 pixels"):
        check(2**31, maps(2**15, 8, 2**8, 2**8))
    with pytest.raises(InputError, match="contiguous maps"):
        check(2**25, maps(2, 128, 2**12, 2**12, memory_format=torch.channels_last))


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, KeyError, MemoryError])
@pytest.mark.parametrize("deterministic", [False, True])
def test_tiles_that_do_not_compile_are_skipped(device, x, monkeypatch, error, deterministic):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    tried = []

    def fails_on_small(config):
        tried.append(config["BLOCK_B"])
        if config["BLOCK_B"] < 64:
            raise error("ptxas")
        return config["BLOCK_B"]

    assert triton_launch.launch(fails_on_small, CONFIGS, x, KEY) == 64
    tried.clear()
    assert triton_launch.launch(fails_on_small, CONFIGS, x, KEY) == 64
    assert tried == [64]  # what failed is not tried again

    def fails(config):
        raise error("ptxas")

    with pytest.raises(error, match="ptxas"):
        triton_launch.launch(fails, CONFIGS, x, (*KEY, "other"))


def test_tables_and_launches_of_a_cold_capture_are_relaxed(device, x, monkeypatch):
    mode = ["global"]

    class Driver:
        def cuThreadExchangeStreamCaptureMode(self, pointer):
            wanted = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int)).contents
            names = ["global", "thread_local", "relaxed"]
            wanted.value, mode[0] = names.index(mode[0]), names[wanted.value]
            return 0

    monkeypatch.setattr(capture, "_driver", Driver)
    device.capturing = True
    assert triton_launch.launch(lambda config: mode[0], CONFIGS, x, KEY) == "relaxed"
    assert mode == ["global"]
    with pytest.raises(ZeroDivisionError), capture.relaxed_capture():
        raise ZeroDivisionError
    assert mode == ["global"]


def test_without_the_drivers_library_nothing_is_exchanged(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(capture.ctypes, "CDLL", missing)
    capture._driver.cache_clear()
    with capture.relaxed_capture():
        assert capture._driver() is None
    capture._driver.cache_clear()


def test_channels_of_a_packed_batch_begin_at_multiples_of_sixteen():
    for batch in (1, 7, 16, 100):
        x = torch.arange(batch * 3.0).view(batch, 3)
        packed = triton_configs.channel_major(x)
        assert torch.equal(packed, x)
        assert packed.stride(0) == 1
        assert packed.stride(1) % 16 == 0


@pytest.mark.skipif(triton_launch.interpreting(), reason="the interpreter compiles nothing")
def test_another_batch_compiles_nothing(monkeypatch):
    """The last batch of an epoch: 1 or 100 samples after 128."""
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from mpnn_arch.kernels import triton_jit

    stand_in = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", 80, 32),
    )
    monkeypatch.setattr(driver, "_active", stand_in)
    try:
        kernel = triton_jit.linear_product
        plan = make_plan(graphs.ring(4).edge_index, [16] * 4, [16] * 4)
        walk = triton_tables.tables(plan, torch.device("cpu")).forward
        weight = torch.empty(plan.num_weights)

        def compile_for(batch: int) -> None:
            class Kernels:
                class linear_product:
                    def __class_getitem__(cls, grid):
                        return lambda *a, **k: kernel.warmup(*a, grid=grid, **k)

            with monkeypatch.context() as patch:
                patch.setattr(backend, "kernels", lambda: Kernels)
                patch.setattr(backend, "launch", lambda run, configs, *_: run(configs[0]))
                patch.setattr(backend, "_check", lambda *_: None)
                # A sub-batch of one tensor, so that the strides are those of a training step.
                backend.linear_forward(torch.empty(128, 64)[:batch], weight, plan)

        compile_for(128)
        (cache, *_) = kernel.device_caches[0]
        assert len(cache) == 1
        for batch in (100, 17, 1):
            compile_for(batch)
        assert len(cache) == 1
        assert walk.num_nodes == 4
    finally:
        kernel.device_caches.clear()


def test_uploads_keep_their_values_on_the_cpu():
    values = np.arange(5, dtype=np.int32)
    assert capture.upload(values, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]


def test_rocm_has_no_tf32(monkeypatch):
    monkeypatch.setattr(machines, "_PRECISION", lambda *_: "tf32")
    x = torch.empty(2, 2)
    assert triton_launch.number_constants(x, convolution=True)["PRECISION"] == "tf32"
    monkeypatch.setattr(machines, "_ROCM", True)  # its Triton refuses the precision
    assert triton_launch.number_constants(x, convolution=True)["PRECISION"] == "ieee"


def test_streams_of_a_cold_capture_are_not_the_captured_one(monkeypatch):
    """torch hands out 32 streams in turn, among them the captured one."""
    handed, now, used = [], [0], []

    def stream(device):
        handed.append(len(handed) % 4)
        return handed[-1]

    @contextlib.contextmanager
    def entered(stream):
        before, now[0] = now[0], stream
        yield
        now[0] = before

    monkeypatch.setattr(capture, "is_capturing", lambda device: True)
    monkeypatch.setattr(capture, "_driver", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: now[0] == 2)
    copied = SimpleNamespace(to=lambda device: used.append(now[0]))
    monkeypatch.setattr(torch, "from_numpy", lambda values: copied)
    for _ in range(8):
        capture.upload(np.arange(3), torch.device("cuda", 0))
    assert len(used) == 8
    assert set(used) == {0, 1, 3}
    assert now == [0]


def test_a_download_during_capture_runs_on_a_stream_of_its_own(monkeypatch):
    streams = []

    @contextlib.contextmanager
    def entered(stream):
        streams.append(stream)
        yield
        streams.append(None)

    monkeypatch.setattr(capture, "is_capturing", lambda device: True)
    monkeypatch.setattr(capture, "_driver", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "its own")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "stream", entered)
    assert capture.download(torch.arange(3)).tolist() == [0, 1, 2]
    assert streams == ["its own", None]
