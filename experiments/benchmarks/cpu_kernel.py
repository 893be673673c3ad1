"""The cpu kernels against dense layers of equal multiply-adds, pass by pass.

For each of the paper's 52 graphs the round's width is the smallest that meets the dense layer's
multiply-adds. Every kernel and its dense counterpart run interleaved in one process; a ratio is
that of their medians, and the spread is that of the ratios of single repeats.

    python experiments/benchmarks/cpu_kernel.py --limit 8
    python experiments/benchmarks/cpu_kernel.py --limit 8 --dtype bfloat16

On a shared machine, ``--threads 1 --processor-time`` excludes the time of other processes.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from goals import spread_graphs
from torch import Tensor

from mpnn_arch import ChannelPartition, RelationalGraph
from mpnn_arch.kernels import cpu
from mpnn_arch.kernels.dispatch.choice import cpu_name
from mpnn_arch.kernels.plan import RoundPlan, make_plan

WIDTH = 512  # of the dense layer
CHANNELS = 128  # of the dense convolution


def plan_of(graph: RelationalGraph, ins: int, outs: int) -> RoundPlan:
    shares = [ChannelPartition(width, graph.num_nodes).sizes for width in (ins, outs)]
    return make_plan(graph.edge_index, *shares)


def matched(graph: RelationalGraph, first: int | None, goal: int) -> int:
    """The smallest w whose round (first -> w, or w -> w) has at least `goal` weights."""
    width = graph.num_nodes
    while plan_of(graph, first or width, width).num_weights < goal:
        width += 1
    return width


def race(
    ours: Callable[[], object],
    dense: Callable[[], object],
    turns: int,
    clock: Callable[[], float],
) -> tuple[float, float, float]:
    """Ratio of medians, and the quartiles of the ratios of single repeats."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + 3):
        for run, kept in zip((ours, dense), times, strict=True):
            start = clock()
            run()
            if turn >= 3:
                kept.append(clock() - start)
    ratios = sorted(a / b for a, b in zip(*times, strict=True))
    middle = statistics.median(times[0]) / statistics.median(times[1])
    return middle, ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]


def linear_passes(plan: RoundPlan, batch: int) -> dict[str, tuple[Callable, Callable]]:
    x, grad = torch.randn(batch, plan.in_channels), torch.randn(batch, plan.out_channels)
    weight = torch.randn(plan.num_weights)
    dense, small = torch.randn(WIDTH, WIDTH), torch.randn(batch, WIDTH)
    return {
        "forward": (lambda: cpu.linear_forward(x, weight, plan), lambda: F.linear(small, dense)),
        "dx": (lambda: cpu.linear_grad_input(grad, weight, plan), lambda: small @ dense),
        "dW": (lambda: cpu.linear_grad_weight(grad, x, plan), lambda: small.T @ small),
    }


class Round(torch.autograd.Function):
    """A bare round: only the kernels and autograd."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        ctx.plan = plan
        return cpu.linear_forward(x, weight, plan)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        return (
            cpu.linear_grad_input(grad, weight, ctx.plan),
            cpu.linear_grad_weight(grad, x, ctx.plan),
            None,
        )


def three_rounds(graph: RelationalGraph, width: int, batch: int) -> tuple[Callable, Callable]:
    plans = [plan_of(graph, WIDTH, width)] + [plan_of(graph, width, width)] * 2
    weights = [torch.randn(plan.num_weights, requires_grad=True) for plan in plans]
    squares = [torch.randn(WIDTH, WIDTH, requires_grad=True) for _ in plans]
    x = torch.randn(batch, WIDTH, requires_grad=True)
    grads = torch.ones(batch, width), torch.ones(batch, WIDTH)

    def ours() -> None:
        y = x
        for weight, plan in zip(weights, plans, strict=True):
            y = torch.relu(Round.apply(y, weight, plan))
        torch.autograd.grad(y, [x, *weights], grads[0])

    def dense() -> None:
        y = x
        for weight in squares:
            y = torch.relu(F.linear(y, weight))
        torch.autograd.grad(y, [x, *squares], grads[1])

    return ours, dense


def conv_passes(
    plan: RoundPlan, batch: int, size: int, kernel: int
) -> dict[str, tuple[Callable, Callable]]:
    move = (1, 1), (kernel // 2, kernel // 2), (1, 1)
    x = torch.randn(batch, plan.in_channels, size, size)
    grad = torch.randn(batch, plan.out_channels, size, size)
    weight = torch.randn(plan.num_weights, kernel, kernel)
    small = torch.randn(batch, CHANNELS, size, size)
    dense = torch.randn(CHANNELS, CHANNELS, kernel, kernel)

    def backward(mask: list[bool]) -> Callable:
        return lambda: torch.ops.aten.convolution_backward(
            small, small, dense, None, *move, False, [0, 0], 1, mask
        )

    def ours_step() -> None:
        cpu.conv2d_forward(x, weight, plan, *move)
        cpu.conv2d_grad_input(grad, weight, plan, x.shape, *move)
        cpu.conv2d_grad_weight(grad, x, plan, (kernel, kernel), *move)

    def dense_step() -> None:
        F.conv2d(small, dense, None, *move)
        backward([True, True, False])()

    return {
        "forward": (
            lambda: cpu.conv2d_forward(x, weight, plan, *move),
            lambda: F.conv2d(small, dense, None, *move),
        ),
        "dx": (
            lambda: cpu.conv2d_grad_input(grad, weight, plan, x.shape, *move),
            backward([True, False, False]),
        ),
        "dW": (
            lambda: cpu.conv2d_grad_weight(grad, x, plan, (kernel, kernel), *move),
            backward([False, True, False]),
        ),
        "step": (ours_step, dense_step),
    }


def show(name: str, figures: tuple[float, float, float]) -> str:
    middle, low, high = figures
    return f"{name} {middle:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=Path, help="folder with the published lists of graphs")
    parser.add_argument("--limit", type=int, default=0, help="number of graphs, 0 for all")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "float64", "bfloat16", "float16")
    )
    parser.add_argument("--processor-time", action="store_true", help="instead of the wall clock")
    parser.add_argument("--conv", action="store_true", help="convolutions instead")
    arguments = parser.parse_args()
    clock = time.thread_time if arguments.processor_time else time.perf_counter
    if arguments.processor_time and arguments.threads != 1:
        parser.error("processor time is that of one thread: add --threads 1")
    torch.set_num_threads(arguments.threads)
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    if not cpu.is_available():
        raise SystemExit(cpu.unavailable_reason())
    print(
        f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{arguments.dtype}"
    )
    print(f"{clock.__name__}; numpy {np.__version__}, Python {platform.python_version()}")
    print("ratio to dense of equal multiply-adds: median (quartiles of single repeats)")
    torch.manual_seed(0)
    totals: dict[str, list[float]] = {}
    for graph in spread_graphs(arguments.limit, arguments.graphs):
        if arguments.conv:
            width = matched(graph, None, CHANNELS**2)
            plan = plan_of(graph, width, width)
            for kernel, size, batch in ((1, 16, 16), (3, 16, 16), (3, 8, 16), (3, 32, 4)):
                races = {
                    f"{kernel}x{kernel}/{size} {name}": race(*pair, arguments.turns // 5 + 1, clock)
                    for name, pair in conv_passes(plan, batch, size, kernel).items()
                }
                report(f"{graph.block_density:.3f} w={width}", races, totals)
            continue
        width = matched(graph, None, WIDTH**2)
        plan = plan_of(graph, width, width)
        for batch in arguments.batch:
            races = {
                f"B{batch} {name}": race(*pair, arguments.turns, clock)
                for name, pair in linear_passes(plan, batch).items()
            }
            goal = 3 * WIDTH**2
            w = graph.num_nodes
            while (
                plan_of(graph, WIDTH, w).num_weights + 2 * plan_of(graph, w, w).num_weights < goal
            ):
                w += 1
            races[f"B{batch} three"] = race(*three_rounds(graph, w, batch), arguments.turns, clock)
            report(f"{graph.block_density:.3f} w={width}", races, totals)
    print("\nover all graphs: median, worst")
    for name, ratios in totals.items():
        print(f"  {name:20} {statistics.median(ratios):.2f} {max(ratios):.2f}")


def report(
    head: str, races: dict[str, tuple[float, float, float]], totals: dict[str, list[float]]
) -> None:
    print(f"{head}: " + ", ".join(show(*item) for item in races.items()), flush=True)
    for name, (middle, _, _) in races.items():
        totals.setdefault(name, []).append(middle)


if __name__ == "__main__":
    main()
