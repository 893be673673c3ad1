"""The dense layers that rounds are timed against, and the processor's peak."""

import ctypes
import math

import pytest
import torch

from mpnn_arch.diagnostics.peak import fma_peak
from mpnn_arch.diagnostics.rivals import OneDNNLinear, dense_rivals
from mpnn_arch.kernels import cpu, cpu_bf16, cpu_library
from mpnn_arch.kernels.native.build import load_library


@pytest.mark.skipif(not OneDNNLinear.is_available(), reason="this torch is built without oneDNN")
def test_onednn_computes_the_same_layer():
    rivals = dense_rivals(24, torch.device("cpu"), torch.float32)
    assert list(rivals) == ["torch", "onednn"]
    plain, layer = rivals["torch"], rivals["onednn"]
    layer.load_state_dict(plain.state_dict())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 24, generator=generator, requires_grad=True)
    grad = torch.randn(7, 24, generator=generator)
    for got, want in zip(
        torch.autograd.grad(layer(x), (x, layer.weight), grad),
        torch.autograd.grad(plain(x), (x, plain.weight), grad),
        strict=True,
    ):
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(layer(x), plain(x))


def test_other_dtypes_have_torchs_layer_alone():
    for dtype in (torch.float64, torch.bfloat16):
        assert list(dense_rivals(8, torch.device("cpu"), dtype)) == ["torch"]


def test_rivals_leave_the_global_random_state():
    state = torch.get_rng_state()
    dense_rivals(8, torch.device("cpu"), torch.float32)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.skipif(not cpu.is_available(), reason="the kernels cannot be compiled here")
def test_the_peak_is_finite_and_above_one_operation_a_nanosecond():
    native = cpu_library.require_kernels().bf16_products == cpu_bf16.NATIVE
    for dtype in (torch.float32, torch.float64, *[torch.bfloat16] * native):
        peak = fma_peak(dtype, threads=1)
        assert peak is not None
        assert 1e9 < peak < 1e13
    assert native or fma_peak(torch.bfloat16) is None
    assert fma_peak(torch.float16) is None


@pytest.mark.skipif(not cpu.is_available(), reason="the kernels cannot be compiled here")
@pytest.mark.parametrize(
    ("seconds", "threads"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (0.01, 0), (0.01, 9999)]
)
def test_the_compiled_function_refuses_wrong_numbers(seconds, threads):
    measure = load_library().peak_f32
    measure.argtypes, measure.restype = (ctypes.c_double, ctypes.c_int64), ctypes.c_double
    assert measure(seconds, threads) == 0
