"""The C++ kernels against the dense layer with the same weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch import RelationalLinear
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph, complete
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.masked import dense_weight
from mpnn_arch.kernels.plan import RoundPlan, make_plan

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def ring(n: int) -> RelationalGraph:
    return RelationalGraph(n, [list(range(n)), [(i + 1) % n for i in range(n)]])


def random_graph(n: int, density: float, *, directed: bool = False) -> RelationalGraph:
    generator = torch.Generator().manual_seed(n)
    edges = (torch.rand(n, n, generator=generator) < density).nonzero().T
    return RelationalGraph(n, edges, directed=directed)


GRAPHS = {
    "complete": RelationalGraph(16, [[i for i in range(16) for _ in range(16)], [*range(16)] * 16]),
    "ring": ring(16),
    "star": RelationalGraph(16, [[0] * 15, list(range(1, 16))]),
    "directed": random_graph(17, 0.2, directed=True),
    "self-loops": RelationalGraph(16, torch.empty(2, 0, dtype=torch.int64)),
    "one node": RelationalGraph(1, [[0], [0]]),
    "random": random_graph(64, 0.15),
    "wide": random_graph(512, 0.01),
}


def plan_of(graph: RelationalGraph, ins: int, outs: int) -> RoundPlan:
    """Ragged: some nodes' shares are larger by one channel."""
    nodes = range(graph.num_nodes)
    return make_plan(
        graph.edge_index, [ins + (i % 3 == 0) for i in nodes], [outs + (i % 4 == 1) for i in nodes]
    )


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def assert_near(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    scale = max(float(expected.abs().max()), 1.0) if expected.numel() else 1.0
    torch.testing.assert_close(got, expected, rtol=0, atol=TOLERANCE[expected.dtype] * scale)


def compare_linear(plan: RoundPlan, batch: int, dtype: torch.dtype) -> None:
    x, weight, grad = tensors(
        (batch, plan.in_channels), (plan.num_weights,), (batch, plan.out_channels), dtype=dtype
    )
    dense = dense_weight(weight, plan)
    assert_near(cpu.linear_forward(x, weight, plan), F.linear(x, dense))
    assert_near(cpu.linear_grad_input(grad, weight, plan), grad @ dense)
    expected = (grad.T @ x)[plan.dense_mask]
    grad_weight = cpu.linear_grad_weight(grad, x, plan)
    assert_near(grad_weight, expected)
    both = cpu.linear_grads(grad, x, weight, plan)
    assert torch.equal(both[0], cpu.linear_grad_input(grad, weight, plan))
    assert torch.equal(both[1], grad_weight)
    assert both[2] is None
    compare_bias_and_relu(plan, x, weight, grad)


def compare_bias_and_relu(plan: RoundPlan, x: Tensor, weight: Tensor, grad: Tensor) -> None:
    """Added and applied by the kernels, and as operations of their own."""
    (bias,) = tensors((plan.out_channels,), dtype=x.dtype)
    biased = cpu.linear_forward(x, weight, plan) + bias
    assert torch.equal(cpu.linear_forward(x, weight, plan, bias), biased)
    y = cpu.linear_forward(x, weight, plan, bias, relu=True)
    assert torch.equal(y, biased.relu())
    before = grad.masked_fill(y <= 0, 0)
    for weights in (weight, None):
        ours = cpu.linear_grads(grad, x, weights, plan, y, for_bias=True)
        apart = cpu.linear_grads(before, x, weights, plan, for_bias=True)
        assert (ours[0] is None) == (weights is None)
        for first, second in zip(ours, apart, strict=True):
            assert first is second is None or torch.equal(first, second)
        assert_near(ours[2], before.sum(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [1, 2, 3, 5, 7, 8, 9, 13, 15, 31])
def test_shares(share: int, dtype: torch.dtype) -> None:
    for other in (1, share):
        compare_linear(plan_of(GRAPHS["directed"], share, other), 33, dtype)
        compare_linear(plan_of(GRAPHS["directed"], other, share), 128, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 2, 4, 15, 16, 17, 31, 33, 64, 65, 128, 513])
def test_batches(batch: int, dtype: torch.dtype) -> None:
    compare_linear(plan_of(GRAPHS["random"], 8, 11), batch, dtype)
    compare_linear(plan_of(GRAPHS["ring"], 2, 3), batch, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str, dtype: torch.dtype) -> None:
    compare_linear(plan_of(GRAPHS[name], 3, 2), 37, dtype)
    compare_linear(plan_of(GRAPHS[name], 5, 18), 64, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6, 7, 8])
def test_few_samples(batch: int, name: str, dtype: torch.dtype) -> None:
    for share in (1, 3, 8, 21):  # rows of weights shorter than a vector, and of several and a rest
        compare_linear(plan_of(GRAPHS[name], share, 5), batch, dtype)
        compare_linear(plan_of(GRAPHS[name], 5, share), batch, dtype)


@pytest.mark.parametrize("share", [3, 21])
def test_few_samples_sum_nothing_twice(share: int) -> None:
    plan = plan_of(complete(5), share, 2)
    x, weight = torch.ones(2, plan.in_channels), torch.ones(plan.num_weights)
    weight[0] = x[1, 1] = float("inf")
    expected = F.linear(x, dense_weight(weight, plan))
    assert torch.equal(cpu.linear_forward(x, weight, plan), expected)
    assert torch.equal(cpu.linear_forward(x[1:], weight, plan), expected[1:])


def test_long_batch_in_pieces() -> None:
    compare_linear(plan_of(GRAPHS["ring"], 40, 33), 3001, torch.float32)


def test_layout_of_the_tensors_does_not_matter() -> None:
    plan = plan_of(GRAPHS["directed"], 7, 5)
    x, weight, grad = tensors((33, plan.in_channels), (plan.num_weights,), (33, plan.out_channels))
    y, dx, dw = (
        cpu.linear_forward(x, weight, plan),
        cpu.linear_grad_input(grad, weight, plan),
        cpu.linear_grad_weight(grad, x, plan),
    )
    turned = [t.T.contiguous().T for t in (x, grad)]
    sliced = [torch.cat([t, t], dim=1)[:, : t.shape[1]] for t in (x, grad)]
    spread = torch.stack([weight, weight], dim=1)[:, 0]
    for x2, grad2 in (turned, sliced):
        assert torch.equal(cpu.linear_forward(x2, spread, plan), y)
        assert torch.equal(cpu.linear_grad_input(grad2, spread, plan), dx)
        assert torch.equal(cpu.linear_grad_weight(grad2, x2, plan), dw)
        both = cpu.linear_grads(grad2, x2, spread, plan)
        assert torch.equal(both[0], dx)
        assert torch.equal(both[1], dw)
    ones = torch.ones(()).expand(33, plan.out_channels)
    assert torch.equal(
        cpu.linear_grad_weight(ones, x, plan), cpu.linear_grad_weight(ones.contiguous(), x, plan)
    )


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_numbers_past_a_share_do_not_enter(batch: int) -> None:
    """A vector at the end of a run also loads the next channels; a NaN there must not spread."""
    plan = make_plan(torch.tensor([[0, 1], [0, 1]]), [3, 3], [3, 3])
    x, grad = torch.ones(batch, 6), torch.ones(batch, 6)
    x[:, 3:], grad[:, 3:] = torch.nan, torch.nan
    assert cpu.linear_forward(x, torch.ones(18), plan)[:, :3].isfinite().all()
    assert cpu.linear_grad_input(grad, torch.ones(18), plan)[:, :3].isfinite().all()
    assert cpu.linear_grad_weight(grad, x, plan)[:9].isfinite().all()
    many = torch.ones(40, 1)
    both = cpu.linear_grads(many * grad[:1], many * x[:1], torch.ones(18), plan)
    assert both[0][:, :3].isfinite().all()
    assert both[1][:9].isfinite().all()


def test_a_bias_is_one_number_for_every_channel_or_expands_to_that() -> None:
    plan = plan_of(GRAPHS["ring"], 2, 3)
    x, weight = tensors((4, plan.in_channels), (plan.num_weights,))
    y = cpu.linear_forward(x, weight, plan)
    assert torch.equal(cpu.linear_forward(x, weight, plan, torch.ones(1)), y + 1)
    spread = torch.arange(2.0 * plan.out_channels)[::2]
    assert torch.equal(cpu.linear_forward(x, weight, plan, spread), y + spread)
    for size in (0, 2, plan.out_channels + 1):
        with pytest.raises(RuntimeError, match="size"):
            cpu.linear_forward(x, weight, plan, torch.ones(size))
    for bias in (torch.ones(plan.out_channels, device="meta"), torch.ones(1).double()):
        with pytest.raises(InputError):
            cpu.linear_forward(x, weight, plan, bias)


def test_nan_is_no_negative_number_of_a_relu() -> None:
    plan = make_plan(torch.tensor([[0, 1], [0, 1]]), [30, 3], [30, 3])
    x = torch.ones(40, 33)
    x[3, 2], x[3, 31] = torch.nan, torch.nan
    weight = torch.ones(plan.num_weights)
    y = cpu.linear_forward(x, weight, plan, relu=True)
    assert y[3].isnan().all()
    assert y.nan_to_num(1).gt(0).all()
    grad_x, _, grad_bias = cpu.linear_grads(torch.ones(40, 33), x, weight, plan, y, for_bias=True)
    assert torch.equal(grad_x, cpu.linear_grad_input(torch.ones(40, 33), weight, plan))
    assert torch.equal(grad_bias, torch.full((33,), 40.0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_both_gradients_on_any_number_of_threads(threads: int, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for batch in (1, 2, 32, 33, 80, 400):  # rows and panels are distributed
        compare_linear(plan_of(GRAPHS["random"], 8, 11), batch, torch.float32)


def test_a_backward_pass_asks_for_both_gradients_at_once(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    asked = []
    together = cpu.linear_grads

    def recorded(*tensors):  # type: ignore[no-untyped-def]
        asked.append(tensors[0].shape)
        return together(*tensors)

    monkeypatch.setattr(cpu, "linear_grads", recorded)
    layer = RelationalLinear(GRAPHS["random"], 320, 320, backend="cpu")
    x = torch.randn(40, 320, generator=torch.Generator().manual_seed(0), requires_grad=True)
    layer(x).square().sum().backward()
    assert asked == [(40, 320)]
    dense = layer.dense_weight().detach().requires_grad_()
    twin = x.detach().clone().requires_grad_()
    F.linear(twin, dense, layer.bias.detach()).square().sum().backward()
    assert_near(x.grad, twin.grad)
    assert_near(layer.weight.grad, dense.grad[layer.plan.dense_mask])


def test_plan_with_tables_still_copies_and_pickles() -> None:
    plan = plan_of(GRAPHS["ring"], 2, 3)
    x, weight = tensors((4, plan.in_channels), (plan.num_weights,))
    y = cpu.linear_forward(x, weight, plan)
    for other in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert torch.equal(cpu.linear_forward(x, weight, other), y)


@pytest.mark.parametrize(
    ("x", "weight", "sentence"),
    [
        (torch.ones(2, 32, dtype=torch.float16), torch.ones(192), "float16"),
        (torch.ones(2, 32, dtype=torch.float64), torch.ones(192), "float64"),
        (torch.ones(2, 31), torch.ones(192), r"\(2, 31\)"),
        (torch.ones(2, 32), torch.ones(190), r"\(190,\)"),
        (torch.ones(2, 32, device="meta"), torch.ones(192), "meta"),
    ],
)
def test_bad_input(x: torch.Tensor, weight: torch.Tensor, sentence: str) -> None:
    plan = make_plan(GRAPHS["ring"].edge_index, [2] * 16, [2] * 16)
    with pytest.raises(InputError, match=sentence):
        cpu.linear_forward(x, weight, plan)
