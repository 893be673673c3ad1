"""How widely compiled kernels copy their operands, for GPUs that are not here."""

import re
from types import SimpleNamespace

import pytest
import torch

from mpnn_arch import graphs
from mpnn_arch.kernels import triton as backend
from mpnn_arch.kernels import triton_launch
from mpnn_arch.kernels.plan import make_plan

pytestmark = pytest.mark.skipif(
    triton_launch.interpreting(), reason="the interpreter compiles nothing"
)


@pytest.fixture(params=[80, 90], ids="sm_{}".format)
def copies(request, monkeypatch):
    """Bytes of each asynchronous copy of the kernels compiled, instead of launched."""
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from mpnn_arch.kernels import triton_jit

    widths = []

    class Kernels:
        def __getattr__(self, name):
            return Launches(getattr(triton_jit, name))

    class Launches:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            def launch(*args, **constants):
                compiled = self.kernel.warmup(*args, grid=grid, **constants)
                found = re.findall(r"cp\.async\.c[ag][^;]*?\], (0x)?(\d+)", compiled.asm["ptx"])
                widths.extend(int(width, 16 if hexadecimal else 10) for hexadecimal, width in found)

            return launch

    stand_in = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", request.param, 32),
    )
    monkeypatch.setattr(driver, "_active", stand_in)
    monkeypatch.setattr(backend, "kernels", Kernels)
    monkeypatch.setattr(backend, "_check", lambda *_: None)
    monkeypatch.setattr(triton_launch, "tf32_allowed", lambda convolution: True)
    yield widths
    for name in ("linear_product", "linear_weights", "conv_weights"):
        getattr(triton_jit, name).device_caches.clear()


def only(monkeypatch, wanted):
    """Only the first configuration that is wanted is compiled."""

    def launch(run, configs, *_):
        return run(next(config for config in configs if wanted(config)))

    monkeypatch.setattr(backend, "launch", launch)


@pytest.mark.parametrize("convolution", [False, True], ids=["linear", "conv"])
def test_padded_weight_gradients_copy_16_bytes_in_tf32(copies, monkeypatch, convolution):
    only(monkeypatch, lambda config: config["pad"] == 1)
    plan = make_plan(graphs.complete(8).edge_index, [7] * 8, [17] * 8)
    maps = (4, 6) if convolution else ()
    x, grad = torch.empty(64, 56, *maps), torch.empty(64, 136, *maps)
    if convolution:
        backend.conv2d_grad_weight(grad, x, plan, 3, padding=1)
    else:
        backend.linear_grad_weight(grad, x, plan)
    assert copies
    assert set(copies) == {16}


def test_aligned_weight_gradients_copy_16_bytes_in_tf32(copies, monkeypatch):
    only(monkeypatch, lambda config: config["BLOCK_K"] < 64)
    plan = make_plan(graphs.complete(4).edge_index, [16] * 4, [32] * 4)
    backend.linear_grad_weight(torch.empty(64, 128), torch.empty(64, 64), plan)
    assert copies
    assert set(copies) == {16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("padded", [0, 1])
@pytest.mark.parametrize("product", ["forward", "dX", "dW"])
def test_any_number_of_nodes_is_copied_as_widely(copies, monkeypatch, product, padded, dtype):
    """Rows of 9 nodes of 8 channels are multiples of 8 numbers, and those of 16 nodes of 16."""

    def wanted(config):
        return config["pad"] == padded and (dtype.itemsize < 4 or config["BLOCK_K"] < 64)

    only(monkeypatch, wanted)
    share, widths = 7 if padded else 8, []
    for nodes in (9, 16):
        copies.clear()
        plan = make_plan(graphs.ring(nodes, 4).edge_index, [share] * nodes, [share] * nodes)
        x, weight = torch.empty(64, share * nodes), torch.empty(plan.num_weights)
        x, weight = x.to(dtype), weight.to(dtype)
        if product == "forward":
            backend.linear_forward(x, weight, plan)
        elif product == "dX":
            backend.linear_grad_input(x, weight, plan)
        else:
            backend.linear_grad_weight(x, x, plan)
        widths.append(sorted(copies))
    assert widths[0] == widths[1]
    assert 16 in widths[0]
