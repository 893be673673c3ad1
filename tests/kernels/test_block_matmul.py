"""The operation against a loop over the edges in float64: values, gradients, edge cases."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch import ChannelPartition, InputError, RelationalGraph
from mpnn_arch.kernels.backends import unavailable_reason
from mpnn_arch.kernels.block_matmul import block_conv2d, block_matmul
from mpnn_arch.kernels.plan import RoundPlan, make_plan

FUSED = ["gather", "cpu"]  # triton is tested separately, in its interpreter


@pytest.fixture(params=["masked", *FUSED])
def backend(request: pytest.FixtureRequest) -> str:
    reason = unavailable_reason(request.param, "cpu", torch.float32)
    if reason:
        pytest.skip(reason)
    return request.param


def plan_of(graph: RelationalGraph, in_channels: int, out_channels: int | None = None) -> RoundPlan:
    num_nodes = graph.num_nodes
    into = ChannelPartition(in_channels, num_nodes, "published").sizes
    out = ChannelPartition(out_channels or in_channels, num_nodes).sizes
    return make_plan(graph.edge_index, into, out)


def random_graph(num_nodes: int, degree: float, *, directed: bool = False) -> RelationalGraph:
    draws = np.random.default_rng(num_nodes).random((num_nodes, num_nodes))
    edges = (draws < degree / num_nodes).astype(int)
    return RelationalGraph.from_adjacency(edges, directed=directed)


def loop_over_edges(
    x: Tensor, weight: Tensor, plan: RoundPlan, product: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The equation as written, edge by edge."""
    into, out = plan.in_offsets.tolist(), plan.out_offsets.tolist()
    nodes: list[Tensor | int] = [0] * plan.num_nodes
    column = [0] * plan.num_nodes
    for u, v in zip(plan.source.tolist(), plan.target.tolist(), strict=True):
        size_v, size_u = out[v + 1] - out[v], into[u + 1] - into[u]
        rows = weight[int(plan.weight_offset[v]) : int(plan.weight_offset[v + 1])]
        rows = rows.view(size_v, int(plan.fan_in[v]), *weight.shape[1:])
        block = rows[:, column[v] : column[v] + size_u]
        nodes[v] = nodes[v] + product(x[:, into[u] : into[u + 1]], block)
        column[v] += size_u
    return torch.cat(nodes, dim=1)


def assert_same_as_loop(
    backend: str, plan: RoundPlan, x: Tensor, weight: Tensor, tolerance: float = 2e-5
) -> None:
    x, weight = x.requires_grad_(), weight.requires_grad_()
    y = block_matmul(x, weight, plan, backend)
    exact_x = x.detach().double().requires_grad_()
    exact_weight = weight.detach().double().requires_grad_()
    exact = loop_over_edges(exact_x, exact_weight, plan, F.linear)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    got = torch.autograd.grad(y, (x, weight), grad.to(y.dtype))
    want = torch.autograd.grad(exact, (exact_x, exact_weight), grad)
    for mine, true in zip((y, *got), (exact, *want), strict=True):
        assert mine.shape == true.shape
        assert mine.dtype == x.dtype
        scale = max(1.0, float(true.detach().abs().max())) if true.numel() else 1.0
        assert torch.allclose(mine.double(), true, rtol=0, atol=tolerance * scale)


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


def test_corner_graphs(backend: str, graph: RelationalGraph, generator: torch.Generator) -> None:
    plan = plan_of(graph, 31, 22)
    assert_same_as_loop(backend, plan, draw(generator, 5, 31), draw(generator, plan.num_weights))


@pytest.mark.parametrize("share", [1, 2, 3, 7, 8, 9, 31])
@pytest.mark.parametrize("ragged", [False, True])
def test_shares(backend: str, share: int, ragged: bool, generator: torch.Generator) -> None:
    graph = random_graph(16, 4)
    width = 16 * share + (5 if ragged else 0)
    plan = plan_of(graph, width)
    x = draw(generator, 33, width)
    assert_same_as_loop(backend, plan, x, draw(generator, plan.num_weights))


@pytest.mark.parametrize("batch", [0, 1, 2, 31, 33, 128])
def test_batches(backend: str, batch: int, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(16, 5, directed=True), 83, 70)
    x = draw(generator, batch, 83)
    assert_same_as_loop(backend, plan, x, draw(generator, plan.num_weights))


@pytest.mark.parametrize("num_nodes", [1, 64, 512])
def test_number_of_nodes(backend: str, num_nodes: int, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(num_nodes, 3), num_nodes + 7, 2 * num_nodes + 1)
    x = draw(generator, 9, plan.in_channels)
    assert_same_as_loop(backend, plan, x, draw(generator, plan.num_weights))


def test_input_that_is_not_contiguous(backend: str, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(16, 5), 40)
    weight = draw(generator, plan.num_weights)
    for x in (
        draw(generator, 40, 12).t(),
        draw(generator, 24, 40)[::2],
        draw(generator, 12, 80)[:, ::2],
    ):
        assert_same_as_loop(backend, plan, x, weight)
    constant = torch.ones(1, 1).expand(12, 40).detach()
    assert_same_as_loop(backend, plan, constant, weight)


def test_gradient_that_is_not_contiguous(backend: str, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(16, 5), 40)
    weight = draw(generator, plan.num_weights).requires_grad_()
    x = draw(generator, 6, 40)
    (ones,) = torch.autograd.grad(block_matmul(x, weight, plan, backend).sum(), weight)
    grad = torch.ones(6, 40)
    (same,) = torch.autograd.grad(block_matmul(x, weight, plan, backend), weight, grad)
    assert torch.equal(ones, same)
    (exact,) = torch.autograd.grad(loop_over_edges(x, weight, plan, F.linear), weight, grad)
    torch.testing.assert_close(ones, exact)


def test_gradcheck(backend: str, graph: RelationalGraph, generator: torch.Generator) -> None:
    plan = plan_of(graph, 11, 13)
    x = draw(generator, 3, 11, dtype=torch.double).requires_grad_()
    weight = draw(generator, plan.num_weights, dtype=torch.double).requires_grad_()

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return block_matmul(x, weight, plan, backend)

    torch.testing.assert_close(run(x, weight), loop_over_edges(x, weight, plan, F.linear))
    assert torch.autograd.gradcheck(run, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, weight), fast_mode=True)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((1, 1), (1, 1), (0, 0), (1, 1)),
        ((1, 1), (2, 2), (0, 0), (1, 1)),
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((3, 2), (2, 1), (1, 0), (1, 2)),
        ((5, 5), (1, 1), (4, 4), (2, 2)),
    ],
)
def test_convolutions(
    backend: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    generator: torch.Generator,
) -> None:
    plan = plan_of(random_graph(16, 4, directed=True), 37, 21)
    geometry = (stride, padding, dilation)
    x = draw(generator, 3, 37, 9, 8).requires_grad_()
    weight = draw(generator, plan.num_weights, *kernel).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    exact_weight = weight.detach().double().requires_grad_()
    y = block_conv2d(x, weight, plan, *geometry, backend)
    exact = loop_over_edges(
        exact_x, exact_weight, plan, lambda x, w: F.conv2d(x, w, None, *geometry)
    )
    grad = draw(generator, *exact.shape, dtype=torch.double)
    got = torch.autograd.grad(y, (x, weight), grad.float())
    want = torch.autograd.grad(exact, (exact_x, exact_weight), grad)
    for mine, true in zip((y, *got), (exact, *want), strict=True):
        assert mine.shape == true.shape
        assert torch.allclose(
            mine.double(), true, rtol=0, atol=2e-5 * float(true.detach().abs().max())
        )


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolution_gradcheck(backend: str, kernel: int, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(4, 2, directed=True), 9, 7)
    x = draw(generator, 2, 9, 5, 4, dtype=torch.double).requires_grad_()
    weight = draw(generator, plan.num_weights, kernel, kernel, dtype=torch.double).requires_grad_()
    padding = (kernel // 2, kernel // 2)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return block_conv2d(x, weight, plan, (1, 1), padding, backend=backend)

    exact = loop_over_edges(x, weight, plan, lambda x, w: F.conv2d(x, w, None, 1, padding))
    torch.testing.assert_close(run(x, weight), exact)
    assert torch.autograd.gradcheck(run, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, weight), fast_mode=True)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_plan_without_edges(backend: str, kernel: int, generator: torch.Generator) -> None:
    plan = make_plan(torch.zeros(2, 0, dtype=torch.int64), [2, 2], [3, 3])
    x = draw(generator, 2, 4, 5, 5).requires_grad_()
    weight = torch.zeros(0, kernel, kernel, requires_grad=True)
    for y in (
        block_conv2d(x, weight, plan, backend=backend),
        block_matmul(x[:, :, 0, 0], weight[:, 0, 0], plan, backend=backend),
    ):
        assert y.shape[:2] == (2, 6)
        assert not y.any()
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert not grad.any()


def test_maps_with_channels_last_and_no_samples(backend: str, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(8, 3), 20)
    weight = draw(generator, plan.num_weights, 3, 3).requires_grad_()
    x = draw(generator, 2, 20, 6, 5)
    turned = x.to(memory_format=torch.channels_last)
    results = [
        block_conv2d(maps, weight, plan, padding=(1, 1), backend=backend) for maps in (x, turned)
    ]
    assert torch.allclose(*results, atol=1e-5)
    exact = loop_over_edges(x, weight, plan, lambda x, w: F.conv2d(x, w, None, 1, 1))
    torch.testing.assert_close(results[1], exact, atol=1e-5, rtol=1e-5)
    nothing = block_conv2d(x[:0], weight, plan, padding=(1, 1), backend=backend)
    assert nothing.shape == (0, 20, 6, 5)
    (grad,) = torch.autograd.grad(nothing.sum(), weight)
    assert not grad.any()


def test_one_gradient_alone(backend: str, generator: torch.Generator) -> None:
    plan = plan_of(random_graph(8, 3), 20)
    x, weight = draw(generator, 4, 20), draw(generator, plan.num_weights)
    both = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    want = torch.autograd.grad(block_matmul(*both, plan, backend).sum(), both)
    exact = torch.autograd.grad(loop_over_edges(*both, plan, F.linear).sum(), both)
    torch.testing.assert_close(want, exact)
    for position, true in enumerate(want):
        inputs = [x.clone(), weight.clone()]
        inputs[position].requires_grad_()
        block_matmul(*inputs, plan, backend).sum().backward()
        assert torch.equal(inputs[position].grad, true)
        assert inputs[1 - position].grad is None


def test_the_complete_graph_is_a_dense_layer(backend: str, generator: torch.Generator) -> None:
    graph = RelationalGraph.from_adjacency(np.ones((9, 9), dtype=int))
    plan = plan_of(graph, 20, 31)
    x, weight = draw(generator, 4, 20), draw(generator, plan.num_weights)
    assert torch.equal(block_matmul(x, weight, plan, backend), F.linear(x, weight.view(31, 20)))


def test_half_precision(generator: torch.Generator) -> None:
    plan = plan_of(random_graph(16, 5), 40)
    x = draw(generator, 7, 40).bfloat16()
    weight = draw(generator, plan.num_weights).bfloat16()
    assert_same_as_loop("gather", plan, x, weight, tolerance=2e-2)


def test_infinity_reaches_only_the_nodes_that_receive_it(
    backend: str, generator: torch.Generator
) -> None:
    if backend == "masked":
        pytest.skip("a dense product multiplies every infinity by a zero somewhere")
    plan = plan_of(RelationalGraph(4, [[0], [1]]), 9)
    x = draw(generator, 2, 9)
    x[:, 0] = torch.inf
    y = block_matmul(x, torch.ones(plan.num_weights), plan, backend)
    end = plan.out_offsets[2]  # of the nodes that receive from node 0
    assert not y[:, :end].isfinite().any()
    assert y[:, end:].isfinite().all()


@pytest.mark.parametrize(
    ("x", "weights", "backend", "sentence"),
    [
        ((2, 8), 0, "gather", r"\(B, 9\), not \(2, 8\)"),
        ((2, 9, 1), 0, "gather", r"\(B, 9\), not \(2, 9, 1\)"),
        ((2, 9), 1, "gather", "weights of this plan"),
        ((2, 9), 0, "scatter", "no backend 'scatter'"),
    ],
)
def test_bad_input_is_rejected(
    x: tuple[int, ...], weights: int, backend: str, sentence: str
) -> None:
    plan = plan_of(RelationalGraph(4, [[0], [1]]), 9)
    with pytest.raises(InputError, match=sentence):
        block_matmul(torch.ones(x), torch.ones(plan.num_weights + weights), plan, backend)
