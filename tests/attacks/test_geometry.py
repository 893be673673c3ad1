"""Sizes of every kind on every backend: the same values, the same gradients, the same refusals."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mpnn_arch import ChannelPartition, RelationalConv2d, RelationalGraph, RelationalLinear, cli
from mpnn_arch.errors import InputError
from mpnn_arch.kernels import cpu, gather, masked, memory
from mpnn_arch.kernels.block_matmul import block_conv2d, block_matmul
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.rounds.graph_round import GraphRound

BACKENDS = [name for name in ("masked", "gather", "cpu") if name != "cpu" or cpu.is_available()]
EVERY_WAY = ["auto", "reference", *BACKENDS]
RING = RelationalGraph(4, [[0, 1, 2, 3], [1, 2, 3, 0]])
needs_kernels = pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())
bounded = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,  # the fixture below only sets a number back
    ],
)


# -- fuzzing: all backends against each other --------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> RoundPlan:
    """A directed graph of 1 to 5 nodes, some without edges, and shares of 1 to 7 channels."""
    nodes = draw(st.integers(1, 5))
    edges = draw(st.lists(st.booleans(), min_size=nodes * nodes, max_size=nodes * nodes))
    matrix = torch.tensor(edges).view(nodes, nodes)
    matrix[0, nodes - 1] = True
    shares = st.lists(st.integers(1, 7), min_size=nodes, max_size=nodes)
    return make_plan(matrix.nonzero().T.flip(0), draw(shares), draw(shares))


pairs = {
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "stride": st.tuples(*[st.one_of(st.integers(1, 3), st.sampled_from([7, 2**31 - 1]))] * 2),
    "padding": st.tuples(st.integers(0, 3), st.integers(0, 3)),
    "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
}


def outcome(run: Callable[[], list[Tensor]]) -> list[Tensor] | str:
    """The tensors of ``run``, or the sentence with which it refuses."""
    try:
        return run()
    except InputError as refusal:
        return str(refusal)


def agree(results: dict[str, list[Tensor] | str]) -> None:
    expected = results["masked"]
    for backend, result in results.items():
        if isinstance(expected, str):
            assert result == expected, backend
            continue
        assert not isinstance(result, str), (backend, result)
        for tensor, other in zip(result, expected, strict=True):
            exact = tensor.dtype == torch.float64
            scale = float(other.abs().max()) if other.numel() else 0.0
            torch.testing.assert_close(
                tensor,
                other,
                rtol=0,
                atol=(1e-10 if exact else 1e-4) * max(scale, 1.0),
                msg=lambda message, backend=backend: f"{backend}: {message}",
            )


def values_and_gradients(
    product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor
) -> list[Tensor]:
    """y, its gradients, and those of their squared sum."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = product(x, weight)
    first = torch.autograd.grad(y, (x, weight), y.detach().cos(), create_graph=True)
    second = torch.autograd.grad(
        sum(g.square().sum() for g in first), (x, weight), materialize_grads=True
    )
    return [y.detach(), *(g.detach() for g in first), *second]


@pytest.fixture
def threads():
    """Sets torch's number of threads, and afterwards back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@bounded
@given(
    plan=plans(),
    batch=st.integers(0, 3),
    size=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    team=st.sampled_from([1, 2, 3]),
    **pairs,
)
def test_backends_agree_on_convolutions(
    threads, plan, batch, size, seed, dtype, team, kernel, stride, padding, dilation
):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 4, (batch, plan.in_channels, *size), generator=generator).to(dtype)
    weight = torch.randint(-3, 4, (plan.num_weights, *kernel), generator=generator).to(dtype)
    threads(team)

    def run(backend: str) -> list[Tensor] | str:
        def product(x: Tensor, weight: Tensor) -> Tensor:
            return block_conv2d(x, weight, plan, stride, padding, dilation, backend=backend)

        return outcome(lambda: values_and_gradients(product, x, weight))

    agree({backend: run(backend) for backend in BACKENDS})


@bounded
@given(
    plan=plans(),
    batch=st.sampled_from([0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 65, 130]),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    team=st.sampled_from([1, 2, 3]),
    view=st.sampled_from(["rows", "columns", "expanded", "every second"]),
)
def test_backends_agree_on_vectors(threads, plan, batch, seed, dtype, team, view):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randint(-3, 4, shape, generator=generator).to(dtype)

    x, weight = draw(batch, plan.in_channels), draw(plan.num_weights)
    if view == "columns":
        x = x.t().contiguous().t()
    elif view == "expanded":
        x = draw(1, plan.in_channels).expand(batch, -1)
    elif view == "every second":
        x = draw(2 * batch, plan.in_channels)[::2]
    threads(team)

    def run(backend: str) -> list[Tensor] | str:
        def product(x: Tensor, weight: Tensor) -> Tensor:
            return block_matmul(x, weight, plan, backend=backend)

        return outcome(lambda: [product(x, weight), *values_and_gradients(product, x, weight)])

    agree({backend: run(backend) for backend in BACKENDS})


@bounded
@given(
    kernel=st.one_of(st.integers(), st.floats(), st.none(), st.text(), st.lists(st.integers())),
    stride=st.one_of(st.integers(), st.booleans(), st.lists(st.integers(-1, 3), max_size=3)),
    padding=st.one_of(st.integers(), st.text(), st.floats()),
    dilation=st.one_of(st.integers(), st.none(), st.binary()),
    channels=st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()),
)
def test_any_argument_is_refused_with_one_class(kernel, stride, padding, dilation, channels):
    for arguments in (
        (8, 8, kernel, stride, padding, dilation),
        (8, 8, 1, stride, 0, 1),
        (8, 8, 1, 1, padding, 1),
        (8, 8, 1, 1, 0, dilation),
        (channels, 8, 1),
        (8, channels, 1),
    ):
        made = outcome(lambda a=arguments: [RelationalConv2d(RING, *a, device="meta").weight])
        assert isinstance(made, list) or ("\n" not in made and len(made) < 400)


# -- a table of refusals -----------------------------------------------------------------------

NO_COUNTS = [True, False, None, 2.7, 8.0, "3", "", 0, -1, -8, 2**31, 2**63, 10**5000, [8], (8, 8)]
NO_COUNTS += [float("nan"), float("inf"), b"8", {}, object, 8 + 0j, np.float64(8), np.bool_(True)]


def identify(value: Any) -> str:
    return repr(value)[:20] if not isinstance(value, int) or value < 2**64 else "5000 digits"


@pytest.mark.parametrize("value", NO_COUNTS, ids=identify)
@pytest.mark.parametrize("make", ["in", "out", "channels", "nodes", "shares", "graph round"])
def test_a_number_of_channels(make, value):
    makers: dict[str, Callable[[], object]] = {
        "in": lambda: RelationalLinear(RING, value, 8),
        "out": lambda: RelationalConv2d(RING, 8, value, 3),
        "channels": lambda: ChannelPartition(value, 4),
        "nodes": lambda: ChannelPartition(8, value),
        "shares": lambda: ChannelPartition.from_sizes([3, value]),
        "graph round": lambda: GraphRound(8, value),
    }
    with pytest.raises(InputError, match=r"is (an integer )?between 1 and \d+, .* was given; ch"):
        makers[make]()


@pytest.mark.parametrize("value", [8, np.int64(8), np.int32(8), np.uint8(8)], ids=repr)
def test_integers_of_numpy_are_integers(value):
    assert RelationalLinear(RING, value, value).in_channels == 8


@pytest.mark.parametrize("shares", [[], None, 8, "88", [3, -1], [2**31 - 1, 1]], ids=repr)
def test_shares(shares):
    with pytest.raises(InputError):
        ChannelPartition.from_sizes(shares)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("kernel_size", [0, -1, True, None, 2.7, "3", 2**63, (3, 3, 3), (), [], (0, 3), (3, None)]),
        ("stride", [0, -1, True, None, 1.0, "1", 2**63, (1, 1, 1), (1, -1), (2**31, 1)]),
        ("padding", [-1, True, None, 0.5, "full", "", 2**63, (0, 0, 0), (0, -1), b"same"]),
        ("dilation", [0, -1, True, None, 1.5, "1", 2**63, (1, 1, 1), (1, 0), {1}]),
        ("bias", ["no", None, 1, 0, 2.0, [], "True"]),
        ("residual", ["no", None, 1, 0]),
        ("squeeze_excitation", [0, -1, True, 1.5, "2", 2**63]),
    ],
)
@pytest.mark.parametrize("backend", EVERY_WAY)
def test_an_argument_of_a_convolution(backend, argument, values):
    for value in values:
        arguments: dict[str, Any] = {"kernel_size": 3, "backend": backend, argument: value}
        with pytest.raises(InputError, match=argument.replace("_excitation", "")) as refusal:
            RelationalConv2d(RING, 8, 8, **arguments)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "shape", "sentence"),
    [
        ({}, (2, 8, 0, 3), "are empty"),
        ({}, (2, 8, 3, 0), "are empty"),
        ({}, (0, 8, 0, 0), "are empty"),
        ({}, (8, 0, 3), "are empty"),
        ({}, (2, 8, 2, 5), "does not fit"),
        ({"dilation": 3}, (2, 8, 6, 7), "does not fit"),
        ({"kernel_size": (1, 2**12)}, (1, 8, 5, 5), "does not fit"),
        ({"padding": 10**6}, (2, 8, 3, 3), "pixels"),
        ({"padding": 2**31 - 1, "stride": 2**31 - 1}, (2, 8, 3, 3), "pixels"),
        ({"padding": 2**30, "dilation": 2**30}, (2, 8, 3, 3), "pixels"),
        ({"padding": 20_000, "kernel_size": 1}, (16, 8, 3, 3), "bytes"),
        ({}, (2, 7, 3, 3), "takes"),
        ({}, (8, 3), "takes"),
        ({}, (1, 2, 8, 3, 3), "takes"),
    ],
)
def test_maps_are_refused_on_every_backend_alike(arguments, shape, sentence):
    refusals = set()
    for backend in EVERY_WAY:
        layer = RelationalConv2d(RING, 8, 8, **{"kernel_size": 3, **arguments}, backend=backend)
        with pytest.raises(InputError, match=sentence) as refusal:
            layer(torch.zeros(shape))
        refusals.add(str(refusal.value))
    assert len(refusals) == 1


def test_a_node_without_incoming_edges(generator):
    """Its rows of weights are empty, and a kernel may not divide by their length."""
    plan = make_plan(torch.tensor([[0], [1]]), [2, 3], [4, 5])
    x = torch.randn(2, 5, 4, 6, generator=generator)
    weight = torch.randn(plan.num_weights, 3, 3, generator=generator)

    def run(backend: str) -> list[Tensor]:
        return values_and_gradients(
            lambda x, w: block_conv2d(x, w, plan, padding=(1, 1), backend=backend), x, weight
        )

    agree({backend: run(backend) for backend in BACKENDS})


@pytest.mark.parametrize("stride", [2, 3, 7, 2**20, 2**31 - 1, (1, 2**31 - 1)])
def test_a_stride_past_the_map_has_no_effect(stride, generator):
    """torch's own convolution ends the process from a stride of some thousands on."""
    x = torch.randn(2, 8, 3, 4, generator=generator)
    results = {}
    for backend in ["reference", *BACKENDS]:
        layer = RelationalConv2d(
            RING, 8, 8, 3, stride, 1, backend=backend, generator=torch.Generator().manual_seed(1)
        )
        y = layer(x)
        y.square().sum().backward()
        assert y.shape[2:] == layer.output_size(3, 4)
        results[backend] = [y.detach(), layer.weight.grad]
    agree(results)


# -- what cannot fit into memory ---------------------------------------------------------------


@pytest.fixture
def small_machine(monkeypatch):
    """A gigabyte of memory, whatever this machine has."""
    monkeypatch.setattr(memory, "host_memory", lambda: 2**30)


def ring_of(nodes: int) -> RoundPlan:
    """Every node receives from itself and its predecessor, one channel each."""
    node = torch.arange(nodes)
    edges = torch.cat([torch.stack([node, node]), torch.stack([node.roll(1), node])], dim=1)
    order = (edges[1] * nodes + edges[0]).argsort()
    return make_plan(edges[:, order], [1] * nodes, [1] * nodes)


def star_of(nodes: int) -> RoundPlan:
    """Node 0 receives from all, and every other node from itself."""
    node = torch.arange(1, nodes)
    hub = torch.stack([torch.arange(nodes), torch.zeros(nodes, dtype=torch.int64)])
    edges = torch.cat([hub, node.expand(2, -1)], dim=1)
    return make_plan(edges, [1] * nodes, [1] * nodes)


def two_large_nodes() -> RoundPlan:
    """Padding every edge to the largest shares would take 10^13 entries."""
    node = torch.arange(1000)
    return make_plan(node.expand(2, -1), [10**5] + [1] * 999, [10**5] + [1] * 999)


@pytest.mark.parametrize(
    "make",
    [
        lambda: masked.prepare(ring_of(10**6)),
        lambda: masked.linear_forward(torch.ones(1, 10**6), torch.ones(2 * 10**6), ring_of(10**6)),
        lambda: ring_of(10**6).dense_index,
        lambda: gather.prepare(star_of(10**5)),
        lambda: two_large_nodes().block_index,
        lambda: RelationalLinear(RING, 2**31 - 1, 8),
        lambda: RelationalLinear(RING, 2**20, 2**20),
        lambda: RelationalConv2d(RING, 2**10, 2**10, 2**12),
        lambda: RelationalLinear(
            RING, 2**20, 2**20, message="low_rank", message_kwargs={"rank": 2**18}
        ),
    ],
)
def test_the_number_of_bytes_is_given_before_anything_is_allocated(make, small_machine):
    with pytest.raises(InputError, match=r"would take [\d,]+ bytes, cpu has [\d,]+"):
        make()


@needs_kernels
@pytest.mark.parametrize("backend", ["cpu", "auto"])
def test_a_large_ring_runs_where_no_dense_matrix_is_needed(backend, small_machine):
    """On 20,000 nodes `masked` and its 1.6 GB are refused; `auto` then selects another."""
    nodes = 20_000
    with pytest.raises(InputError, match="bytes"):
        masked.prepare(ring_of(nodes))
    plan = ring_of(nodes)
    x = torch.ones(1, nodes, requires_grad=True)
    weight = torch.full((2 * nodes,), 3.0, requires_grad=True)
    y = block_matmul(x, weight, plan, backend=backend)
    y.sum().backward()
    assert torch.equal(y, torch.full((1, nodes), 6.0))
    assert torch.equal(weight.grad, torch.ones(2 * nodes))


def test_a_layer_without_data_is_of_any_size():
    assert RelationalLinear(RING, 2**20, 2**20, device="meta").weight.is_meta


# -- the C++ entry points ----------------------------------------------------------------------


def native() -> tuple[Any, Any, Tensor, int]:
    plan = make_plan(RING.edge_index, [2] * 4, [2] * 4)
    x = torch.ones(2, 8, 5, 5)
    call, tables = cpu._ready(plan, x, x)
    return call, tables, x, plan.num_weights


GOOD = [2, 5, 5, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1]


@needs_kernels
@pytest.mark.parametrize("product", ["forward", "grad_input", "grad_weight"])
def test_a_kernel_refuses_geometry_that_does_not_fit(product):
    call, tables, x, weights = native()
    out = torch.zeros(2 * 8 * 5 * 5 + weights * 9)
    other = torch.ones_like(out)

    def run(numbers: list[int]) -> int:
        geometry = (ctypes.c_int64 * len(GOOD))(*numbers)
        pointers = (ctypes.addressof(geometry), x.data_ptr(), other.data_ptr(), out.data_ptr())
        return call[f"conv2d_{product}"](tables.pointer, *pointers, 2)

    assert run(GOOD) == 0
    before = out.clone()
    tried = 0
    for position in range(len(GOOD)):
        for value in (-(2**63), -(2**31), -1, 0, 7, 2**31, 2**40, 2**63 - 1):
            numbers = list(GOOD)
            numbers[position] = value
            if position == 0 and value == 7:
                continue  # a larger batch fits the geometry, and only the caller knows the tensor
            assert run(numbers) == 2, (position, value)
            tried += 1
    assert tried == 103
    assert torch.equal(out, before)
    code = call[f"conv2d_{product}"](tables.pointer, None, x.data_ptr(), 0, out.data_ptr(), 1)
    assert code == 2


@needs_kernels
def test_a_kernel_refuses_rows_that_do_not_fit():
    call, tables, x, weights = native()
    y, w, p = torch.zeros(2, 8), torch.ones(weights), tables.pointer
    forward = [p, x.data_ptr(), 8, 2, w.data_ptr(), None, 0, y.data_ptr(), 1]
    backward = [p, x.data_ptr(), 8, 2, w.data_ptr(), y.data_ptr(), 1]
    for product, arguments, written in (
        ("linear_forward", forward, 7),
        ("linear_grad_input", backward, 5),
    ):
        assert call[product](*arguments) == 0
        empty = [p, None, 8, 0, *[None] * (len(arguments) - 4)]
        empty[-1] = 1
        if product == "linear_forward":
            empty[6] = 0
        assert call[product](*empty) == 0  # no samples, nothing is read
        for position, value in [(0, 0), (1, 0), (2, -1), (3, -1), (3, 2**62), (4, 0), (written, 0)]:
            wrong: list[Any] = list(arguments)
            wrong[position] = value
            assert call[product](*wrong) == 2, position
    dx, dw, db = torch.zeros(2, 8), torch.zeros(weights), torch.zeros(8)
    grads = [x.data_ptr(), 8, y.data_ptr(), x.data_ptr(), 8, 2, w.data_ptr()]
    arguments = [p, *grads, dx.data_ptr(), dw.data_ptr(), db.data_ptr(), 1]
    assert call["linear_grads"](*arguments) == 0
    for position in (3, 8, 10):  # no ReLU, no gradient of x or of a bias
        fewer = list(arguments)
        fewer[position] = None
        assert call["linear_grads"](*fewer) == 0
    wrongs = [(0, 0), (1, 0), (2, -8), (4, 0), (5, -8), (6, 0), (6, 2**62), (7, 0), (9, 0)]
    for position, value in wrongs:
        wrong = list(arguments)
        wrong[position] = value
        assert call["linear_grads"](*wrong) == 2, position


@needs_kernels
@pytest.mark.parametrize("threads", [-(2**63), -1, 0, 1, 5, 64, 10**5, 2**31, 2**63 - 1])
def test_any_number_of_threads(threads, monkeypatch):
    plan = make_plan(RING.edge_index, [2, 3, 4, 5], [5, 1, 2, 9])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 14, generator=generator)
    maps = torch.randn(3, 14, 6, 7, generator=generator)
    weight = torch.randn(plan.num_weights, generator=generator)
    kernels = torch.randn(plan.num_weights, 3, 3, generator=generator)

    def products() -> list[Tensor]:
        y = cpu.linear_forward(x, weight, plan)
        z = cpu.conv2d_forward(maps, kernels, plan, (1, 1), (1, 1), (1, 1))
        return [
            y,
            cpu.linear_grad_input(y, weight, plan),
            cpu.linear_grad_weight(y, x, plan),
            *cpu.linear_grads(y, x, weight, plan, y, True),
            z,
            cpu.conv2d_grad_input(z, kernels, plan, maps.shape, (1, 1), (1, 1), (1, 1)),
            cpu.conv2d_grad_weight(z, maps, plan, (3, 3), (1, 1), (1, 1), (1, 1)),
        ]

    expected = products()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for found, wanted in zip(products(), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("threads", [-1, 0, 100_000, 2**31, 2**63])
def test_bench_bounds_its_threads(threads, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "--quick", "--threads", str(threads)])
    assert stop.value.code == 2
    assert re.search("--threads('?: |' ?is| is at (least|most) )", capsys.readouterr().err)
