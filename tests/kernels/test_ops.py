"""The operation under torch's tools: compile, export, autocast, DDP, copies, flop counts, vmap."""

import copy
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from mpnn_arch import ChannelPartition, RelationalGraph
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.backends import unavailable_reason
from mpnn_arch.kernels.block_matmul import block_matmul
from mpnn_arch.kernels.plan import RoundPlan, make_plan
from mpnn_arch.rounds import RelationalConv2d, RelationalLinear

GRAPH = RelationalGraph(8, [[0, 1, 2, 3, 6, 0], [1, 2, 3, 4, 2, 5]], directed=True)


@pytest.fixture(params=["auto", "masked", "gather", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    reason = request.param != "auto" and unavailable_reason(request.param, "cpu", torch.float32)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture
def network(backend: str, generator: torch.Generator) -> nn.Module:
    init = {"backend": backend, "generator": generator}
    return nn.Sequential(
        RelationalConv2d(GRAPH, 20, 24, 3, padding=1, **init),
        nn.ReLU(),
        RelationalConv2d(GRAPH, 24, 17, 1, stride=2, **init),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        RelationalLinear(GRAPH, 17, 24, **init),
        nn.ReLU(),
        RelationalLinear(GRAPH, 24, 9, **init),
    )


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.randn(4, 20, 6, 5, generator=generator)


@pytest.fixture
def plan() -> RoundPlan:
    shares = (ChannelPartition(20, 8).sizes, ChannelPartition(25, 8).sizes)
    return make_plan(GRAPH.edge_index, *shares)


@pytest.fixture
def process_group() -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"tcp://localhost:{free.getsockname()[1]}"
    dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


Run = Callable[[Tensor], Tensor]


def gradients(run: Run, parameters: list[Tensor], x: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(run(x).square().sum(), parameters)


def dense(network: nn.Module) -> Run:
    """The same network, its rounds by torch's own products with their dense matrices."""

    def layer(part: nn.Module, x: Tensor) -> Tensor:
        if isinstance(part, RelationalLinear):
            return F.linear(x, part.dense_weight(), part.bias)
        if isinstance(part, RelationalConv2d):
            moves = part.stride, part.padding, part.dilation
            return F.conv2d(x, part.dense_weight(), part.bias, *moves)
        y: Tensor = part(x)
        return y

    parts = network if isinstance(network, nn.Sequential) else [network]
    return lambda x: reduce(lambda x, part: layer(part, x), parts, x)


def test_compile_without_a_graph_break(network: nn.Module, images: Tensor) -> None:
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    parameters = list(network.parameters())
    for x in (images, torch.cat([images, images[:3]])):
        torch.testing.assert_close(compiled(x), dense(network)(x))
        found = gradients(compiled, parameters, x)
        torch.testing.assert_close(found, gradients(dense(network), parameters, x))


def test_export_for_any_batch(network: nn.Module, images: Tensor) -> None:
    batch = {0: torch.export.Dim("batch", min=2)}
    program = torch.export.export(network, (images,), dynamic_shapes=(batch,))
    torch.testing.assert_close(program.module()(images[:3]), dense(network)(images[:3]))


def test_an_exported_program_runs_in_a_process_without_the_plan(
    generator: torch.Generator, tmp_path: Path
) -> None:
    network = RelationalLinear(GRAPH, 20, 25, backend="gather", generator=generator)
    images = torch.randn(4, 20, generator=generator)
    program = torch.export.export(network, (images,))
    torch.export.save(program, tmp_path / "program.pt2")
    torch.jit.save(torch.jit.trace(network, images), tmp_path / "program.ts")
    torch.save({"x": images, "y": dense(network)(images).detach()}, tmp_path / "tensors.pt")
    code = """
import sys, torch
import mpnn_arch.kernels.ops  # as notebooks/differences.md says; no layer and no plan is created
saved = torch.load(sys.argv[1] + "/tensors.pt", weights_only=True)
program = torch.export.load(sys.argv[1] + "/program.pt2")
torch.testing.assert_close(program.module()(saved["x"]), saved["y"])
traced = torch.jit.load(sys.argv[1] + "/program.ts")
torch.testing.assert_close(traced(saved["x"]), saved["y"])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_list_in_a_program_is_empty(generator: torch.Generator) -> None:
    """AOTInductor hands None to the operator for an empty list."""
    layer = RelationalLinear(GRAPH, 20, 25, backend="gather", bias=False, generator=generator)
    x = torch.randn(4, 20, generator=generator)
    program = torch.export.export(layer, (x,))
    operator = torch.ops.mpnn_arch.block_product
    (call,) = [node for node in program.graph.nodes if node.target is operator.default]
    assert [] not in [list(part) for part in call.args if isinstance(part, list | tuple)]


@pytest.mark.parametrize("able", [True, False])
def test_a_program_can_be_traced_before_anything_ran(
    able: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not able:
        monkeypatch.setitem(backends._REASONS, "cpu", "there is no compiler here")
    torch._dynamo.reset()  # what other tests could not compile is skipped for the process
    layer = RelationalLinear(GRAPH, 21 + able, 25, generator=generator)  # an unused plan
    x = torch.randn(4, 21 + able, generator=generator)
    program = torch.export.export(layer, (x,))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    weights = [layer.weight]
    found = gradients(compiled, weights, x)
    torch.testing.assert_close(program.module()(x), dense(layer)(x))
    torch.testing.assert_close(found, gradients(dense(layer), weights, x))


def test_operators_pass_opcheck(plan: RoundPlan, generator: torch.Generator) -> None:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    tensors = (plan.source, plan.target, plan.in_offsets, plan.out_offsets)
    numbers = [plan.in_channels, plan.out_channels, plan.num_weights]
    ops = torch.ops.mpnn_arch
    for space, kernel, conv_arguments in ([(), (), []], [(5, 4), (3, 3), [1, 1, 1, 1, 1, 1]]):
        constants = (*tensors, numbers, plan.key, "gather", conv_arguments)
        x, y = draw(3, 20, *space), draw(3, 25, *space)
        weight = draw(plan.num_weights, *kernel)
        opcheck(ops.block_product, (x, weight, *constants))
        opcheck(ops.block_product_bias, (x, weight, draw(25), *constants))
        opcheck(ops.block_product_grad_input, (y, weight, [*x.shape], *constants))
        opcheck(ops.block_product_grad_weight, (y, x, [*kernel], *constants))


def test_autocast(network: nn.Module, images: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(images)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), dense(network)(images), atol=0.05, rtol=0.05)
    low.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


def test_autocast_leaves_float64_alone(plan: RoundPlan) -> None:
    x, weight = torch.ones(2, 20).double(), torch.ones(plan.num_weights).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block_matmul(x, weight, plan, "gather").dtype == torch.float64


def test_data_parallel(network: nn.Module, images: Tensor, process_group: None) -> None:
    parallel = nn.parallel.DistributedDataParallel(network)
    expected = gradients(dense(network), list(network.parameters()), images)
    parallel(images).square().sum().backward()
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_copy_is_another_layer_on_the_same_plan(network: nn.Module, images: Tensor) -> None:
    expected = network(images)
    torch.testing.assert_close(expected, dense(network)(images))
    other = copy.deepcopy(network)
    assert torch.equal(other(images), expected)
    assert other[0].plan is network[0].plan
    with torch.no_grad():
        other[0].weight.zero_()
    assert torch.equal(network(images), expected)


def test_flops_are_those_of_the_edges(plan: RoundPlan) -> None:
    x = torch.ones(7, 20, requires_grad=True)
    weight = torch.ones(plan.num_weights, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        block_matmul(x, weight, plan, "gather").sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 7 * plan.num_weights


def test_gradients_per_sample(network: nn.Module, images: Tensor) -> None:
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(network, parameters, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, images)
    total = gradients(dense(network), list(network.parameters()), images)
    for found, expected in zip(each.values(), total, strict=True):
        torch.testing.assert_close(found.sum(0), expected, atol=1e-5, rtol=1e-4)


def test_shapes_on_the_meta_device(network: nn.Module, images: Tensor) -> None:
    out = copy.deepcopy(network).to("meta")(images.to("meta"))
    assert out.is_meta
    assert out.shape == network(images).shape
    out.sum().backward()


def test_inference_mode(network: nn.Module, images: Tensor) -> None:
    expected = dense(network)(images)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), expected)
