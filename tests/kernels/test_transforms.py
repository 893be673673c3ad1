"""Backends under transforms: batched gradients, forward mode, modes, threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, hvp, jacobian
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, linearize, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from mpnn_arch import RelationalConv2d, RelationalGraph, RelationalLinear, graphs
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels import plan as plan_module
from mpnn_arch.kernels.plan import RoundPlan, make_plan

BACKENDS = ["auto", "reference", "masked", "gather", "cpu"]
if not cpu.is_available():
    BACKENDS.remove("cpu")
RING = RelationalGraph(4, [[0, 1, 2, 3], [1, 2, 3, 0]])


def layer_and_input(
    backend: str, maps: bool, graph: RelationalGraph = RING
) -> tuple[nn.Module, Tensor]:
    """A round with shares of two sizes in and out, in float64."""
    generator = torch.Generator().manual_seed(0)
    arguments = {"backend": backend, "generator": generator, "dtype": torch.float64}
    x = torch.randn(2, 9, *([4, 5] if maps else []), generator=generator, dtype=torch.float64)
    if maps:
        return RelationalConv2d(graph, 9, 6, 3, stride=2, padding=1, **arguments), x
    return RelationalLinear(graph, 9, 6, **arguments), x


def batched(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    rows = torch.stack([torch.full_like(y, i).cos() for i in range(3)])
    inputs = [x, *layer.parameters()]
    grads = torch.autograd.grad(y, inputs, rows, is_grads_batched=True, create_graph=True)
    size = sum(g.square().sum() for g in grads)
    return [*grads, *torch.autograd.grad(size, inputs, materialize_grads=True)]


def dual(layer: nn.Module, x: Tensor) -> list[Tensor]:
    with forward_ad.dual_level():
        y = layer(forward_ad.make_dual(x, x.cos()))
        return [forward_ad.unpack_dual(y).tangent]


def dual_weight(layer: nn.Module, x: Tensor) -> list[Tensor]:
    name = "message_function.weight"
    weight = layer.get_parameter(name).detach()
    with forward_ad.dual_level():
        changed = {name: forward_ad.make_dual(weight, weight.cos())}
        y = functional_call(layer, changed, (x,))
        return [forward_ad.unpack_dual(y).tangent]


def forward_over_reverse(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    with forward_ad.dual_level():
        y = layer(forward_ad.make_dual(x, x.detach().cos())).sin().sum()
        (grad,) = torch.autograd.grad(y, x, create_graph=True)
        return [forward_ad.unpack_dual(grad).tangent]


def loss_of(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x).sin().sum()


TRANSFORMS: dict[str, Callable[[nn.Module, Tensor], list[Tensor]]] = {
    "batched gradients": batched,
    "jacobian": lambda layer, x: [jacobian(layer, x, vectorize=True)],
    "forward jacobian": lambda layer, x: [
        jacobian(layer, x, vectorize=True, strategy="forward-mode")
    ],
    "hessian": lambda layer, x: [hessian(loss_of(layer), x, vectorize=True)],
    "forward over reverse hessian": lambda layer, x: [
        hessian(loss_of(layer), x, vectorize=True, outer_jacobian_strategy="forward-mode")
    ],
    "hvp": lambda layer, x: [hvp(loss_of(layer), x, x.cos())[1]],
    "dual": dual,
    "dual weight": dual_weight,
    "forward over reverse": forward_over_reverse,
    "jvp": lambda layer, x: [jvp(layer, (x,), (x.cos(),))[1]],
    "linearize": lambda layer, x: [linearize(layer, x)[1](x.cos())],
    "jacrev": lambda layer, x: [jacrev(layer)(x)],
    "jacfwd": lambda layer, x: [jacfwd(layer)(x)],
    "func hessian": lambda layer, x: [torch.func.hessian(loss_of(layer))(x)],
    "vmap": lambda layer, x: [vmap(lambda row: layer(row[None]))(x)],
}


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("maps", [False, True], ids=["vectors", "maps"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_works_on_every_backend(transform, maps):
    results = {}
    for backend in BACKENDS:
        layer, x = layer_and_input(backend, maps)
        layer(x).sum().backward()  # an eager step before: tables and choices are there
        layer.zero_grad()
        results[backend] = TRANSFORMS[transform](layer, x)
    for backend in BACKENDS:
        torch.testing.assert_close(results[backend], results["reference"], msg=backend)


# -- tables made at a first call in a mode are ordinary ones ------------------------------------


def in_inference(layer: nn.Module, x: Tensor) -> None:
    with torch.inference_mode():
        layer(x)


def in_fake_mode(layer: nn.Module, x: Tensor) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        layer(mode.from_tensor(x))


def in_hooks(layer: nn.Module, x: Tensor) -> None:
    def refuse(tensor: Tensor) -> Tensor:
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(refuse, lambda tensor: tensor):
        layer(x).sum().backward()


FIRST: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "inference": in_inference,
    "jvp": lambda layer, x: jvp(layer, (x,), (x,)),
    "vmap": lambda layer, x: vmap(lambda row: layer(row[None]))(x),
    "fake": in_fake_mode,
    "hooks": in_hooks,
}


def of_every_sample(layer, x):
    """The gradient of every sample, as for differential privacy."""

    def loss(parameters, sample):
        return functional_call(layer, parameters, (sample[None],)).square().sum()

    return vmap(grad(loss), (None, 0))(dict(layer.named_parameters()), x)["bias"]


@pytest.mark.parametrize(
    "transform",
    [
        of_every_sample,
        lambda layer, x: jacrev(layer)(x),
        lambda layer, x: jvp(layer, (x,), (x.cos(),))[1],
    ],
    ids=["vmap of grad", "jacrev", "jvp"],
)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("maps", [False, True], ids=["vectors", "maps"])
def test_transforms_are_compiled_whole(transform, backend, maps):
    torch._dynamo.reset()
    layer, x = layer_and_input(backend, maps)
    compiled = torch.compile(lambda x: transform(layer, x), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), transform(layer, x))


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("maps", [False, True], ids=["vectors", "maps"])
def test_a_first_call_in_a_mode_leaves_ordinary_tables(first, backend, maps):
    seed = 1000 + 100 * list(FIRST).index(first) + 10 * BACKENDS.index(backend) + maps
    graph = graphs.ws_flex(6, average_degree=3, rewiring_probability=0.5, seed=seed)
    layer, x = layer_and_input(backend, maps, graph)  # a graph, and so a plan, of its own
    FIRST[first](layer, x)
    layer.zero_grad()
    x = x.requires_grad_()
    y = layer(x)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
    grad.sum().backward()
    assert layer.weight.grad is not None
    compiled = torch.compile(layer, backend="aot_eager", dynamic=False)
    torch.testing.assert_close(compiled(x), y)
    torch._dynamo.reset()


def test_a_layer_made_in_inference_mode_does_not_spoil_the_plan_of_others():
    graph = graphs.ws_flex(9, average_degree=3, rewiring_probability=0.5, seed=7)
    with torch.inference_mode():
        spoiled = RelationalLinear(graph, 9, 9, backend="masked")
        spoiled(torch.ones(2, 9))
    layer = RelationalLinear(graph, 9, 9, backend="masked")
    assert layer.plan is spoiled.plan
    layer(torch.ones(2, 9, requires_grad=True)).sum().backward()
    assert not any(t.is_inference() for t in vars(layer.plan).values() if isinstance(t, Tensor))


# -- threads and processes -----------------------------------------------------------------------


def fresh_plan(seed: int) -> RoundPlan:
    graph = graphs.ws_flex(24, average_degree=5, rewiring_probability=0.5, seed=seed)
    return make_plan(graph.edge_index, [3] * 24, [2] * 24)


def test_equal_plans_of_several_threads_are_one():
    plans: list[RoundPlan] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        plans.append(fresh_plan(5))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 8
    assert len({id(plan) for plan in plans}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_fork_while_another_thread_registers_a_plan():
    """The child has no thread that would release the lock."""
    held = threading.Event()

    def register() -> None:
        with plan_module._REGISTERING:
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=register)
    thread.start()
    held.wait()
    child = multiprocessing.get_context("fork").Process(target=fresh_plan, args=(7,))
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    thread.join()
    assert child.exitcode == 0
    assert fresh_plan(7).num_nodes == 24


@pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())
def test_threads_share_tables_that_another_releases():
    """A kernel reads its tables until it returns, whoever drops them meanwhile."""
    plan = fresh_plan(6)
    x, weight = torch.ones(300, 72), torch.ones(plan.num_weights)
    expected = cpu.linear_forward(x, weight, plan)
    wrong: list[int] = []

    def compute() -> None:
        for _ in range(100):
            cpu.release(plan)
            if not torch.equal(cpu.linear_forward(x, weight, plan), expected):
                wrong.append(1)

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("maps", [False, True], ids=["vectors", "maps"])
def test_layers_survive_spawn(maps):
    with warnings.catch_warnings(), multiprocessing.get_context("spawn").Pool(1) as pool:
        warnings.simplefilter("ignore")
        for backend in BACKENDS:
            layer, x = layer_and_input(backend, maps)
            layer = layer.requires_grad_(False)
            found = pool.apply(layer, (x,))
            torch.testing.assert_close(found, layer(x), msg=backend)


@pytest.mark.parametrize("maps", [False, True], ids=["vectors", "maps"])
def test_a_symbolic_trace_is_of_every_size_of_a_batch(maps):
    layer, x = layer_and_input("auto", maps)
    layer.norm = "layer"
    layer.double()
    traced = make_fx(layer, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x)
    other = torch.cat([x, x.cos(), x.sin()])
    torch.testing.assert_close(traced(other), layer(other))
