"""The roofline that selects a backend where nothing can be timed."""

import dataclasses
import math

import pytest
import torch

from mpnn_arch import graphs
from mpnn_arch.kernels import backends
from mpnn_arch.kernels.dispatch import choice
from mpnn_arch.kernels.dispatch.choice import predicted_seconds, static_rule
from mpnn_arch.kernels.dispatch.machines import A100, CPU, H100, machine_for
from mpnn_arch.kernels.dispatch.roofline import (
    Kernel,
    Machine,
    RoundSizes,
    dense_products,
    predicted,
)
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan, make_plan

LIMIT = Machine(
    name="no limit",
    peak={"float32": math.inf},
    bandwidth=math.inf,
    efficiency={"dense": 0.5, "conv": 0.5, "batched": 0.5, "edges": 0.5, "edges conv": 0.5},
    dense_tiles=(1,),
)
NAMES = ("triton", "masked", "gather", "cpu")


def plan_of(density: float, width: int, nodes: int = 64) -> RoundPlan:
    graph = graphs.ws_flex(nodes, nodes * density - 1, 0.1, seed=0)  # and a self-loop
    shares = [width // nodes + (i < width % nodes) for i in range(nodes)]
    return make_plan(graph.edge_index, shares, shares)


def sizes_of(density: float, taps: int = 0, samples: int = 256) -> RoundSizes:
    """Shares of 32 channels: tiles of 32 rows have no padding."""
    plan = plan_of(density, 2048)
    return RoundSizes.of(plan, torch.float32, samples=samples, taps=taps, tf32=True)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """``on(machine, names)``: the rule has this machine and these backends."""

    def use(machine: Machine, names: tuple[str, ...] = ("masked", "gather", "triton")) -> None:
        monkeypatch.setattr(choice, "machine_for", lambda device: machine)
        monkeypatch.setattr(choice, "candidates", lambda *args: list(names))
        monkeypatch.setattr(choice, "tf32_allowed", lambda convolution: True)

    return use


def test_products_only() -> None:
    machine = dataclasses.replace(LIMIT, peak={"float32": 1e9})
    sizes = sizes_of(0.25)
    flops = 2 * 256 * sizes.weights  # of one product
    assert predicted_seconds("cpu", sizes, machine) == pytest.approx(3 * flops / 0.5e9)
    dense = 2 * 256 * 2048**2
    assert predicted_seconds("masked", sizes, machine) == pytest.approx(3 * dense / 0.5e9)


def test_bytes_only() -> None:
    machine = dataclasses.replace(LIMIT, bandwidth=1e9)
    sizes = sizes_of(0.25)
    activations, weights = 2 * 4 * 256 * 2048, 4 * sizes.weights
    once = pytest.approx(3 * (activations + weights) / 1e9)
    assert predicted_seconds("cpu", sizes, machine) == once
    assert predicted_seconds("triton", sizes, machine) == once
    dense = predicted(dense_products(sizes, machine), machine, "float32")
    assert dense == pytest.approx(3 * (activations + 4 * 2048**2) / 1e9)
    assert predicted_seconds("masked", sizes, machine) > dense  # it assembles that matrix, too


def test_launches_only() -> None:
    machine = dataclasses.replace(LIMIT, launch=1e-6)
    sizes = sizes_of(0.25)
    # zeros, scatter, three products, gather
    assert predicted_seconds("masked", sizes, machine) == pytest.approx(6e-6)
    assert predicted_seconds("cpu", sizes, machine) == pytest.approx(3e-6)
    paused = dataclasses.replace(LIMIT, pause=1e-6)
    assert predicted_seconds("triton", sizes, paused) == pytest.approx(3e-6)


def test_the_host_launches_ahead() -> None:
    machine = dataclasses.replace(LIMIT, bandwidth=1.0, launch=2.0)
    short, long = Kernel(bytes=1.0), Kernel(bytes=5.0)
    assert predicted([short, short], machine, "float32") == 4.0
    assert predicted([long, long], machine, "float32") == 10.0


def test_idle_processors_and_small_tiles_cost() -> None:
    machine = dataclasses.replace(LIMIT, peak={"float32": 2.0}, processors=8)
    assert Kernel(products=1.0, tile="edges", tiles=8).seconds(machine, "float32") == 2.0
    assert Kernel(products=1.0, tile="edges", tiles=2).seconds(machine, "float32") == 8.0
    # 4 channels a node fill a quarter of the smallest tile of 16.
    small = RoundSizes.of(plan_of(1.0, 256), torch.float32, samples=256)
    kernel = backends.get("triton").step_kernels(small, machine)[0]
    assert kernel.products == 4 * small.products


def test_a_tile_of_one_share_reads_eleven_flop_a_byte() -> None:
    kernel = backends.get("triton").step_kernels(sizes_of(0.14), H100)[0]
    assert 2 * kernel.products / kernel.cached == pytest.approx(32 / 3)


@pytest.mark.parametrize("machine", [A100, H100, CPU], ids=lambda machine: machine.name)
@pytest.mark.parametrize("taps", [0, 1, 9])
@pytest.mark.parametrize("name", NAMES)
def test_more_edges_never_take_less_time(name: str, taps: int, machine: Machine) -> None:
    densities = (0.06, 0.14, 0.25, 0.42, 0.7, 0.96)
    seconds = [predicted_seconds(name, sizes_of(d, taps), machine) for d in densities]
    assert seconds == sorted(seconds)
    assert 0 < seconds[0] < seconds[-1] < math.inf
    more = predicted_seconds(name, sizes_of(0.14, taps, samples=4096), machine)
    assert more > predicted_seconds(name, sizes_of(0.14, taps), machine)


@pytest.mark.parametrize("machine", [A100, H100], ids=lambda machine: machine.name)
def test_masked_wins_where_shares_are_small(machine: Machine, on) -> None:  # type: ignore[no-untyped-def]
    """ResNet-34's second stage: 5 or 6 channels a node fill a third of a tile."""
    on(machine)
    plan, geometry = plan_of(0.14, 326), ConvGeometry.of(3, padding=1)
    known = {"samples": 128, "pixels": 28 * 28}
    assert static_rule(plan, "cuda", torch.float32, geometry, **known) == "masked"
    assert static_rule(plan, "cuda", torch.float32, geometry) == "masked"


@pytest.mark.parametrize("machine", [A100, H100], ids=lambda machine: machine.name)
def test_triton_wins_on_wide_sparse_rounds_only(machine: Machine, on) -> None:  # type: ignore[no-untyped-def]
    on(machine)
    sparse, dense = plan_of(0.14, 2048), plan_of(0.96, 2048)
    assert static_rule(sparse, "cuda", torch.float32, samples=4096) == "triton"
    assert static_rule(dense, "cuda", torch.float32, samples=4096) == "masked"


def test_launches_count_unless_captured(on) -> None:  # type: ignore[no-untyped-def]
    on(H100)
    plan = plan_of(0.96, 520)  # masked launches more kernels, which multiply faster
    assert static_rule(plan, "cuda", torch.bfloat16, samples=512) == "triton"
    assert static_rule(plan, "cuda", torch.bfloat16, samples=512, captured=True) == "masked"


@pytest.mark.parametrize("density", [0.06, 0.14, 0.42, 0.96])
@pytest.mark.parametrize("geometry", [None, ConvGeometry.of(1), ConvGeometry.of(3, padding=1)])
def test_on_the_cpu_kernels_along_the_edges_win(density: float, geometry, on) -> None:  # type: ignore[no-untyped-def]
    """They multiply less and copy nothing, as near to the peak as the dense product."""
    on(CPU, ("masked", "gather", "cpu"))
    for width in (128, 1457):
        assert static_rule(plan_of(density, width), "cpu", torch.float32, geometry) == "cpu"


def test_without_kernels_the_cpu_multiplies_zeros_on_dense_graphs(on) -> None:  # type: ignore[no-untyped-def]
    on(CPU, ("masked", "gather"))
    assert static_rule(plan_of(0.96, 512), "cpu", torch.float32) == "masked"


def test_a_backend_that_tells_nothing_comes_last(on, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    backends.register("silent", object())  # type: ignore[arg-type]
    on(CPU, ("silent", "masked"))
    plan = plan_of(0.14, 128)
    assert static_rule(plan, "cpu", torch.float32) == "masked"
    on(CPU, ("silent",))
    assert static_rule(plan, "cpu", torch.float32) == "silent"


def test_the_machine_of_a_device() -> None:
    assert machine_for(torch.device("cpu")) is CPU
    assert machine_for(torch.device("mps")) is A100
