"""The triton backend against the dense product in float64.

The cases run on the CUDA device where there is one, and in Triton's interpreter on the CPU. The
interpreter is selected once, when Triton is imported, so `test_through_the_interpreter` runs this
file again in a separate process.
"""

import copy
import gc
import os
import pickle
import re
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels import (
    triton,
    triton_configs,
    triton_launch,
    triton_padding,
    triton_tables,
)
from mpnn_arch.kernels.plan import RoundPlan, make_plan

INTERPRETED = triton_launch.interpreting()
DEVICE = "cpu" if INTERPRETED else "cuda"
RAGGED = (1, 2, 3, 7, 8, 9, 31)
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}


@pytest.fixture(autouse=True)
def ieee_products():
    """float32 without TF32: torch's default for convolutions rounds inputs to ten bits."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    newer = hasattr(matmul, "fp32_precision")  # torch 2.9 and later
    name = "fp32_precision" if newer else "allow_tf32"
    switches = (matmul, cudnn.conv if newer else cudnn)
    before = [getattr(switch, name) for switch in switches]
    for switch in switches:
        setattr(switch, name, "ieee" if newer else False)
    yield
    for switch, value in zip(switches, before, strict=True):
        setattr(switch, name, value)


on_a_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not INTERPRETED and not triton.is_available(), reason=triton.unavailable_reason()
    ),
]


def device_case(test):
    for mark in on_a_device:
        test = mark(test)
    return test


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
def test_through_the_interpreter():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=8", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    # Only the two tests for the outer process are skipped.
    assert re.search(r"\d+ passed, 2 skipped", done.stdout), done.stdout[-2000:]


def test_without_a_device_it_says_why():
    if triton.is_available():
        assert triton.unavailable_reason() == ""
    else:
        assert "triton" in triton.unavailable_reason()


# -- graphs ---------------------------------------------------------------------------------


def ring(n: int) -> RelationalGraph:
    return RelationalGraph(n, np.stack([np.arange(n), (np.arange(n) + 1) % n]))


def star(n: int) -> RelationalGraph:
    return RelationalGraph(n, np.stack([np.zeros(n - 1, int), np.arange(1, n)]))


def complete(n: int) -> RelationalGraph:
    return RelationalGraph.from_adjacency(np.ones((n, n)))


def isolated(n: int) -> RelationalGraph:
    return RelationalGraph(n, np.zeros((2, 0), int))


def random(n: int, density: float = 0.4) -> RelationalGraph:
    rng = np.random.default_rng(n)
    return RelationalGraph.from_adjacency(rng.random((n, n)) < density, directed=True)


def one_way(n: int) -> RelationalGraph:
    """Directed, no self-loops: edges 0 -> v for all v > 0 and 1 -> 0; other nodes send nothing."""
    targets = np.arange(n)
    sources = np.where(targets == 0, 1, 0)
    return RelationalGraph(n, np.stack([sources, targets]), directed=True, self_loops=False)


FAMILIES = {
    "ring": ring,
    "star": star,
    "complete": complete,
    "directed": random,
    "isolated": isolated,
    "one_way": one_way,
}
GRAPHS = {name: family(16) for name, family in FAMILIES.items()}
SMALL_GRAPHS = {name: family(5) for name, family in FAMILIES.items()}


def sizes(n: int, shift: int = 0) -> list[int]:
    return [RAGGED[(i + shift) % len(RAGGED)] for i in range(n)]


def plan_of(graph: RelationalGraph, in_sizes=None, out_sizes=None) -> RoundPlan:
    n = graph.num_nodes
    return make_plan(graph.edge_index, in_sizes or sizes(n), out_sizes or sizes(n, 3))


# -- the reference --------------------------------------------------------------------------


def dense(weight: Tensor, plan: RoundPlan) -> Tensor:
    """(num_weights, ...) -> (C_out, C_in, ...) in float64."""
    matrix = weight.new_zeros(
        plan.out_channels * plan.in_channels, *weight.shape[1:], dtype=torch.float64
    )
    matrix[plan.dense_index] = weight.double()
    return matrix.view(plan.out_channels, plan.in_channels, *weight.shape[1:])


def numbers(*shape: int, dtype=torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def agree(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert torch.isfinite(got).all()
    error = (got.double().cpu() - want).abs().max() if got.numel() else torch.zeros(())
    scale = want.abs().max() if want.numel() else torch.ones(())
    assert error <= TOLERANCE[got.dtype] * max(1.0, float(scale))


def check_bias(dtype, **window) -> None:
    """A bias is added to the sums, which are rounded once."""
    plan = plan_of(SMALL_GRAPHS["directed"])
    shape = (6 if window else 40, plan.in_channels, *([5, 4] if window else []))
    x, bias = numbers(*shape, dtype=dtype), 8 * numbers(plan.out_channels, dtype=dtype, seed=3)
    weight = numbers(plan.num_weights, *([3, 3] if window else []), dtype=dtype, seed=1)
    product, forward = F.linear, triton.linear_forward
    if window:
        product, forward = F.conv2d, triton.conv2d_forward
    exact = product(x.double(), dense(weight, plan), bias.double(), **window)
    got = forward(x.to(DEVICE), weight.to(DEVICE), plan, **window, bias=bias.to(DEVICE))
    agree(got, exact)
    assert got.dtype == dtype
    if dtype.itemsize == 2:
        assert (got.cpu() != exact.to(dtype)).double().mean() < 0.004


def check_linear(plan: RoundPlan, batch: int, dtype=torch.float32) -> None:
    x = numbers(batch, plan.in_channels, dtype=dtype)
    weight = numbers(plan.num_weights, dtype=dtype, seed=1)
    grad = numbers(batch, plan.out_channels, dtype=dtype, seed=2)
    matrix = dense(weight, plan)
    x_, weight_, grad_ = x.to(DEVICE), weight.to(DEVICE), grad.to(DEVICE)

    agree(triton.linear_forward(x_, weight_, plan), x.double() @ matrix.T)
    agree(triton.linear_grad_input(grad_, weight_, plan), grad.double() @ matrix)
    of_weight = (grad.double().T @ x.double()).flatten()[plan.dense_index]
    agree(triton.linear_grad_weight(grad_, x_, plan), of_weight)


def check_conv(
    plan: RoundPlan,
    kernel: int,
    *,
    batch: int = 2,
    size=(7, 6),
    dtype=torch.float32,
    channels_last: bool = False,
    **window,
) -> None:
    x = numbers(batch, plan.in_channels, *size, dtype=dtype)
    weight = numbers(plan.num_weights, kernel, kernel, dtype=dtype, seed=1)
    x64 = x.double().requires_grad_()
    matrix = dense(weight, plan).requires_grad_()
    y = F.conv2d(x64, matrix, **window)
    grad = numbers(*y.shape, dtype=dtype, seed=2)
    y.backward(grad.double())

    x_, weight_, grad_ = x.to(DEVICE), weight.to(DEVICE), grad.to(DEVICE)
    if channels_last:
        x_ = x_.contiguous(memory_format=torch.channels_last)
        grad_ = grad_.contiguous(memory_format=torch.channels_last)
    agree(triton.conv2d_forward(x_, weight_, plan, **window), y.detach())
    of_input = triton.conv2d_grad_input(grad_, weight_, plan, tuple(x.shape), **window)
    agree(of_input, x64.grad)
    of_weight = triton.conv2d_grad_weight(grad_, x_, plan, kernel, **window)
    agree(of_weight, matrix.grad.flatten(0, 1)[plan.dense_index])


@device_case
def test_a_plan_without_messages():
    """No graph of ours is so, but a plan may be."""
    plan = make_plan(torch.zeros(2, 0, dtype=torch.long), [2, 1, 3], [1, 2, 2])
    assert plan.num_weights == 0
    check_linear(plan, 5)
    check_conv(plan, 3, padding=1)


# -- the linear round -----------------------------------------------------------------------


@device_case
@pytest.mark.parametrize(
    ("graph", "batch"),
    [*((graph, 33) for graph in GRAPHS), *(("directed", batch) for batch in (0, 1, 2, 31, 128))],
)
def test_linear_on_ragged_shares(graph, batch):
    check_linear(plan_of(GRAPHS[graph]), batch)


@device_case
@pytest.mark.parametrize("share", [*RAGGED, 16, 70])
def test_linear_on_equal_shares(share):
    check_linear(plan_of(random(5), [share] * 5, [share] * 5), 33)


@device_case
@pytest.mark.parametrize(("share_in", "share_out"), [(8, 1), (1, 16), (4, 8), (16, 12)])
def test_linear_between_aligned_shares(share_in, share_out):
    check_linear(plan_of(random(6), [share_in] * 6, [share_out] * 6), 17)


@device_case
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_linear_in_every_dtype(dtype):
    check_linear(plan_of(random(7)), 33, dtype)
    check_linear(plan_of(random(4), [16] * 4, [8] * 4), 20, dtype)


@device_case
@pytest.mark.parametrize("nodes", [64, 512])
def test_linear_on_many_nodes(nodes):
    check_linear(plan_of(ring(nodes), [1] * nodes, [2] * nodes), 3)


@device_case
def test_linear_on_tensors_of_any_stride():
    plan = plan_of(random(6), [8] * 6, [9] * 6)
    x, grad = numbers(20, 48), numbers(20, 54, seed=2)
    weight = numbers(plan.num_weights, seed=1)
    matrix = dense(weight, plan)
    strided_weight = torch.stack([weight, weight], dim=1).to(DEVICE)[:, 0]

    wide = torch.zeros(20, 99)
    wide[:, 1:49] = x
    for strided in (wide.to(DEVICE)[:, 1:49], x.T.contiguous().to(DEVICE).T):
        assert not strided.is_contiguous()
        agree(triton.linear_forward(strided, strided_weight, plan), x.double() @ matrix.T)
        agree(
            triton.linear_grad_weight(grad.to(DEVICE), strided, plan),
            (grad.double().T @ x.double()).flatten()[plan.dense_index],
        )
    one = torch.ones((), device=DEVICE).expand(20, 54)  # the gradient of a sum
    agree(
        triton.linear_grad_input(one, strided_weight, plan),
        torch.ones(20, 54, dtype=torch.float64) @ matrix,
    )


@device_case
def test_a_long_batch_is_cut_and_summed(monkeypatch):
    monkeypatch.setattr(triton_launch, "STRETCH", 16)
    plan = plan_of(random(3), [3, 8, 2], [2, 9, 4])
    for dtype in TOLERANCE:
        check_linear(plan, 77, dtype)
    check_conv(plan, 3, padding=1)
    assert triton_launch.cut(3, 77) == (4, 20)


@device_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("window", [{}, {"padding": (1, 1)}], ids=["linear", "conv"])
def test_a_bias_is_added_before_the_rounding(dtype, window):
    check_bias(dtype, **window)


@device_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_tile_size(monkeypatch, dtype):
    tried = []

    def launch_all(run, configs, x, key):
        outs = []
        for config in configs:
            tried.append(config)
            outs.append(run(config).clone())
            agree(outs[-1], outs[0].double().cpu())
        return outs[-1]

    monkeypatch.setattr(triton, "launch", launch_all)
    plan = plan_of(complete(9), [1] * 9, [1] * 8 + [2])
    walk = triton_tables.tables(plan, torch.device(DEVICE)).forward
    long = torch.empty(9999, 9, dtype=dtype)
    configs = triton_configs.linear_product_configs(walk, long, "tf32")
    monkeypatch.setattr(triton, "linear_product_configs", lambda walk, a, precision: configs)
    check_linear(plan, 3, dtype)
    small = plan_of(ring(3), [2, 1, 19], [1, 8, 2])
    check_conv(small, 2, batch=1, size=(4, 4), padding=1, dtype=dtype)
    assert {config.get("nodes") for config in tried} > {1, 8, 16, 32}
    assert {config.get("pack") for config in tried} > ({0, 1} if dtype.itemsize == 2 else {0})
    assert {config["pad"] for config in tried if "nodes" in config} == {0, 1}
    assert {config["pad"] for config in tried if "nodes" not in config} > {0, 1}


@device_case
def test_the_same_bits_twice():
    plan = plan_of(random(6))
    x, weight = numbers(9, plan.in_channels), numbers(plan.num_weights)
    first, second = (triton.linear_forward(x.to(DEVICE), weight.to(DEVICE), plan) for _ in "12")
    assert torch.equal(first, second)


# -- shares padded to 16 bytes --------------------------------------------------------------


def run_only(monkeypatch, wanted):
    """Only the first configuration with a wanted padding runs; those that ran are recorded."""
    ran = []

    def launch_wanted(run, configs, x, key):
        (first, *_) = [config for config in configs if wanted(config["pad"])]
        ran.append(first)
        return run(first)

    monkeypatch.setattr(triton, "launch", launch_wanted)
    return ran


@pytest.fixture
def padded(monkeypatch):
    """Only configurations with padded shares, each node's by itself."""
    return run_only(monkeypatch, lambda nodes: nodes == 1)


@pytest.fixture
def merged(monkeypatch):
    """Only configurations with padded shares of several nodes."""
    return run_only(monkeypatch, lambda nodes: nodes > 1)


@device_case
@pytest.mark.parametrize("graph", GRAPHS)
def test_padded_shares(padded, graph):
    check_linear(plan_of(GRAPHS[graph]), 33)
    assert len(padded) == 3


@device_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_padded_shares_in_every_dtype(padded, dtype):
    check_linear(plan_of(random(7)), 20, dtype)
    check_linear(plan_of(random(4), [3] * 4, [70, 1, 1, 5]), 20, dtype)


@device_case
@pytest.mark.parametrize("batch", [1, 2, 17, 64, 65])
def test_padded_shares_of_a_last_batch(padded, batch):
    plan = plan_of(random(3), [3, 1, 5], [1, 2, 6])
    check_linear(plan, batch)
    whole, weight = numbers(66, 9), numbers(plan.num_weights, seed=1)
    got = triton.linear_forward(whole.to(DEVICE)[:batch], weight.to(DEVICE), plan)
    agree(got, whole[:batch].double() @ dense(weight, plan).T)


@device_case
@pytest.mark.parametrize(("share_in", "share_out"), [(1, 1), (3, 5), (23, 17), (65, 66)])
def test_padded_shares_of_one_node(padded, share_in, share_out):
    check_linear(plan_of(isolated(1), [share_in], [share_out]), 5)


@device_case
def test_padded_shares_without_messages(padded):
    plan = make_plan(torch.zeros(2, 0, dtype=torch.long), [2, 1, 3], [1, 2, 2])
    check_linear(plan, 5)
    assert not padded  # nothing is launched
    # Nodes without messages among others.
    check_linear(make_plan(torch.tensor([[0, 2], [1, 1]]), [2, 1, 3], [1, 2, 2]), 5)
    assert padded


@device_case
def test_padded_shares_of_tensors_of_any_stride_with_a_bias(padded):
    plan = plan_of(random(5))
    wide = numbers(20, plan.in_channels + 3)
    weight, bias = numbers(plan.num_weights, seed=1), numbers(plan.out_channels, seed=2)
    spread = torch.stack([weight, weight], dim=1).to(DEVICE)[:, 0]
    got = triton.linear_forward(wide.to(DEVICE)[:, 2:-1], spread, plan, bias.to(DEVICE))
    agree(got, F.linear(wide[:, 2:-1].double(), dense(weight, plan), bias.double()))


@device_case
def test_shares_that_begin_at_16_bytes_are_not_padded():
    plan = plan_of(random(4), [4] * 4, [8] * 4)
    both = triton_tables.tables(plan, torch.device(DEVICE))
    x = torch.empty(9, 16, device=DEVICE)
    for walk in (both.forward, both.transposed):
        assert not any(c["pad"] for c in triton_configs.linear_product_configs(walk, x, "ieee"))
        half = triton_configs.linear_product_configs(walk, x.half(), "ieee")
        assert any(c["pad"] for c in half)


@pytest.mark.parametrize("nodes", [1, 4])
def test_padded_positions_and_what_is_released(nodes):
    plan = plan_of(random(6))
    made = triton_padding.padded_shares(plan, torch.device("cpu"), 4, nodes)
    assert made is triton_padding.padded_shares(plan, torch.device("cpu"), 4, nodes)
    assert made.plan.num_nodes == triton_configs.num_tiles(6, nodes)
    assert not (made.plan.in_offsets % 4).any()
    assert not (made.plan.out_offsets % 4).any()
    # A padded dense matrix is the real one with zeros between.
    weight = numbers(plan.num_weights)
    wide = dense(made.spread_weights(weight), made.plan)
    assert torch.equal(wide[made.outputs][:, made.inputs], dense(weight, plan))
    assert torch.count_nonzero(wide) == torch.count_nonzero(weight)
    # So is each tap of padded kernels.
    kernels = numbers(plan.num_weights, 2, 3)
    spread = made.spread_weights(kernels)
    assert spread.shape == (2, 3, made.plan.num_weights)
    for tap in np.ndindex(2, 3):
        wide = dense(spread[tap], made.plan)
        assert torch.equal(
            wide[made.outputs][:, made.inputs], dense(kernels[(slice(None), *tap)], plan)
        )
    assert torch.equal(made.gather_weights(spread), kernels)
    triton.release(plan)
    assert triton_padding.padded_shares(plan, torch.device("cpu"), 4, nodes) is not made


@pytest.mark.parametrize("share", [4, 5])
def test_paddings_die_with_the_plan(share):
    plan = plan_of(ring(3), [share] * 3, [share] * 3)
    made = triton_padding.padded_shares(plan, torch.device("cpu"), 4)
    assert (made.plan.key == plan.key) == (share == 4)  # these are aligned already
    alive = weakref.ref(plan)
    del plan, made
    gc.collect()
    assert alive() is None


# -- the convolution ------------------------------------------------------------------------

WINDOWS = {
    "1x1": (1, {}),
    "1x1 stride 2": (1, {"stride": 2}),
    "3x3": (3, {"padding": 1}),
    "3x3 stride 2": (3, {"stride": 2, "padding": 1}),
    "3x3 dilation 2": (3, {"padding": 2, "dilation": 2}),
    "3x3 stride 2 dilation 2": (3, {"stride": 2, "padding": 2, "dilation": 2}),
    "3x3 unpadded stride 3": (3, {"stride": 3}),
    "3x3 two-sided": (3, {"stride": (1, 2), "padding": (0, 2), "dilation": (2, 1)}),
}


@device_case
@pytest.mark.parametrize("window", WINDOWS)
def test_conv_windows(window):
    kernel, settings = WINDOWS[window]
    check_conv(plan_of(random(5, 0.5), [3, 1, 8, 2, 9], [2, 7, 1, 17, 3]), kernel, **settings)


@device_case
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("graph", GRAPHS)
def test_conv_graphs(graph, kernel):
    check_conv(
        plan_of(SMALL_GRAPHS[graph], None, [1, 9, 2, 31, 8]),
        kernel,
        size=(4, 5),
        padding=kernel // 2,
    )


@device_case
@pytest.mark.parametrize("batch", [0, 1, 2, 31, 33, 128])
def test_conv_batches(batch):
    check_conv(plan_of(star(3), [1, 2, 3], [2, 9, 8]), 2, batch=batch, size=(2, 3), padding=1)


@device_case
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_conv_in_every_dtype(dtype):
    check_conv(plan_of(ring(4), [1, 2, 3, 7], [2, 1, 9, 8]), 3, padding=1, dtype=dtype)


@device_case
def test_conv_channels_last():
    check_conv(plan_of(ring(4), [4] * 4, [3] * 4), 3, stride=2, padding=1, channels_last=True)


@device_case
def test_conv_one_channel_a_node():
    check_conv(plan_of(ring(9), [1] * 9, [1] * 9), 3, batch=1, size=(3, 3), padding=1)


# -- the convolution of padded shares, channels last ----------------------------------------


@device_case
@pytest.mark.parametrize("window", WINDOWS)
def test_padded_conv_windows(padded, window):
    kernel, settings = WINDOWS[window]
    plan = plan_of(random(3, 0.5), [3, 8, 2], [2, 17, 3])
    check_conv(plan, kernel, batch=1, size=(5, 4), **settings)
    assert len(padded) == 3


@device_case
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("graph", GRAPHS)
def test_padded_conv_graphs(padded, graph, kernel, stride):
    window = {"stride": stride, "padding": kernel // 2}
    check_conv(plan_of(SMALL_GRAPHS[graph], None, [1, 9, 2, 31, 8]), kernel, size=(4, 3), **window)
    assert len(padded) == 3


@device_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_padded_conv_in_every_dtype(padded, dtype):
    for shares in ([1, 7, 3], [2, 1, 9]), ([8] * 3, [16] * 3):
        check_conv(plan_of(star(3), *shares), 2, size=(2, 3), padding=1, dtype=dtype)


@device_case
@pytest.mark.parametrize("batch", [0, 1, 33])
def test_padded_conv_of_a_last_batch(padded, batch):
    plan = plan_of(star(3), [1, 2, 3], [2, 9, 8])
    check_conv(plan, 2, batch=batch, size=(2, 3), padding=1)
    whole, weight = numbers(34, 6, 2, 3), numbers(plan.num_weights, 2, 2, seed=1)
    got = triton.conv2d_forward(whole.to(DEVICE)[:batch], weight.to(DEVICE), plan, padding=1)
    agree(got, F.conv2d(whole[:batch].double(), dense(weight, plan), padding=1))


@device_case
@pytest.mark.parametrize(("share_in", "share_out"), [(1, 1), (3, 5), (65, 66)])
def test_padded_conv_of_one_node(padded, share_in, share_out):
    check_conv(plan_of(isolated(1), [share_in], [share_out]), 3, size=(3, 2), padding=1)


@device_case
def test_padded_conv_without_messages(padded):
    check_conv(make_plan(torch.zeros(2, 0, dtype=torch.long), [2, 1, 3], [1, 2, 2]), 3, padding=1)
    assert not padded  # nothing is launched
    # Nodes without messages among others.
    check_conv(make_plan(torch.tensor([[0, 2], [1, 1]]), [2, 1, 3], [1, 2, 2]), 3, padding=1)
    assert padded


@device_case
def test_padded_conv_of_tensors_of_any_stride_with_a_bias(padded):
    plan = plan_of(random(4))
    wide = numbers(3, 5, plan.in_channels + 3, 4).transpose(1, 2)
    weight, bias = numbers(plan.num_weights, 3, 3, seed=1), numbers(plan.out_channels, seed=2)
    flipped = weight.to(DEVICE).transpose(1, 2)
    got = triton.conv2d_forward(wide.to(DEVICE)[:, 2:-1], flipped, plan, bias=bias.to(DEVICE))
    matrix = dense(weight.transpose(1, 2), plan)
    agree(got, F.conv2d(wide[:, 2:-1].double(), matrix, bias.double()))
    assert got.is_contiguous()
    check_conv(plan, 3, stride=2, padding=1, channels_last=True)


@device_case
def test_a_padded_conv_that_is_cut_and_summed(padded, monkeypatch):
    monkeypatch.setattr(triton_launch, "STRETCH", 16)
    check_conv(plan_of(random(3), [3, 8, 2], [2, 9, 4]), 3, padding=1)


@device_case
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_tile_of_several_nodes(merged, graph):
    plan = plan_of(SMALL_GRAPHS[graph], [3, 1, 4, 2, 5], [5, 2, 1, 1, 4])
    check_conv(plan, 3, size=(4, 3), stride=2, padding=1)
    assert {config["pad"] for config in merged} == {3}  # the last two nodes are two of them


@device_case
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_tile_of_several_nodes_in_every_dtype(merged, dtype):
    check_conv(plan_of(one_way(4), [8, 1, 7, 2], [1] * 4), 1, size=(2, 3), dtype=dtype)
    assert {config["pad"] for config in merged} == {2, 4}


@pytest.mark.skipif(not INTERPRETED, reason="only the interpreter's kernels can be asked")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_what_padding_promises_the_compiler_holds(padded, monkeypatch, dtype):
    """Values that are not aligned would be loaded from elsewhere, but not in the interpreter."""
    from triton.runtime import interpreter

    promised = []
    keep = interpreter.TensorHandle.set_attr

    def set_attr(handle, name, values):
        keep(handle, name, values)
        promised.append(handle)

    monkeypatch.setattr(interpreter.TensorHandle, "set_attr", set_attr)
    plan = plan_of(random(4))
    conv = {"kernel": 2, "size": (3, 2)}
    for check, window in (check_linear, {"batch": 3}), (check_conv, conv):
        promised.clear()
        check(plan, **window, dtype=dtype)
        for handle in promised:
            (granule,), (run,) = (
                handle.attr.get(name, [1]) for name in ("tt.divisibility", "tt.contiguity")
            )
            runs = handle.data.reshape(-1, run)
            assert not (runs[:, 0] % granule).any()
            assert (np.diff(runs[runs.any(axis=1)]) == 1).all()  # zeros where masked
        assert 16 // dtype.itemsize in {g for h in promised for g in h.attr["tt.divisibility"]}


@device_case
@pytest.mark.parametrize("share", [3, 8])
def test_no_default_is_padded(share):
    plan = plan_of(random(4), [share] * 4, [share] * 4)
    both = triton_tables.tables(plan, torch.device(DEVICE))
    x = torch.empty(9, 4 * share, 5, 5, device=DEVICE)
    for walk in (both.forward, both.transposed):
        for configs in (triton_configs.conv_product_configs, triton_configs.conv_weights_configs):
            first, *others = configs(walk, x, "ieee")
            assert not first["pad"]
            assert any(config["pad"] for config in others)


# -- bad input, and cached tables -----------------------------------------------------------


@device_case
def test_bad_input_is_one_sentence():
    plan = plan_of(random(4))
    x = numbers(2, plan.in_channels).to(DEVICE)
    weight = numbers(plan.num_weights).to(DEVICE)
    with pytest.raises(InputError, match="x has shape"):
        triton.linear_forward(x[:, 1:], weight, plan)
    with pytest.raises(InputError, match="weight has shape"):
        triton.linear_forward(x, weight[1:], plan)
    with pytest.raises(InputError, match="one dtype"):
        triton.linear_forward(x, weight.half(), plan)
    with pytest.raises(InputError, match="one dtype"):
        triton.linear_forward(x.int(), weight.int(), plan)
    with pytest.raises(InputError, match="does not fit"):
        triton.conv2d_forward(
            x[:, :, None, None], weight[:, None, None].expand(-1, 3, 3).contiguous(), plan
        )


@pytest.mark.skipif(INTERPRETED, reason="in the interpreter the CPU is the device")
def test_a_tensor_of_the_cpu_is_refused():
    plan = plan_of(random(4))
    with pytest.raises(InputError, match="TRITON_INTERPRET"):
        triton.linear_forward(numbers(2, plan.in_channels), numbers(plan.num_weights), plan)


def test_tables_are_built_once_and_die_with_the_plan():
    plan, cpu = plan_of(random(8)), torch.device("cpu")
    built = triton_tables.tables(plan, cpu)
    for other in (plan, copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert triton_tables.tables(other, cpu) is built
    before = len(triton_tables._TABLES)
    del plan, other
    gc.collect()
    assert len(triton_tables._TABLES) < before


def test_tables_name_every_weight_once():
    plan = plan_of(random(8))
    walk = triton_tables.tables(plan, torch.device("cpu")).transposed
    shares = plan.in_sizes.repeat_interleave(walk.list_ptr.diff().long())
    named = torch.cat(
        [
            start + torch.arange(share)
            for start, share in zip(walk.weight_start, shares, strict=True)
        ]
    )
    assert torch.equal(named.sort().values, torch.arange(plan.num_weights))
    matrix = torch.arange(1, plan.num_weights + 1).double()
    columns = dense(matrix, plan)[walk.channel[0]]  # the first row that receives from node 0
    assert columns[0] == walk.weight_start[0] + 1
