"""The cpu kernels and the dense products of equal cost as shares of the processor's measured peak.

    python experiments/benchmarks/peak_share.py --threads 1
    python experiments/benchmarks/peak_share.py --threads 1 --conv --dtype bfloat16

Medians of interleaved calls, copies into and out of the kernels' layout included. A dense
convolution may exceed the peak: its library skips the products with padding, which count here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from cpu_kernel import CHANNELS, WIDTH, conv_passes, linear_passes, matched, plan_of
from goals import spread_graphs
from rich.console import Console
from rich.table import Table

from mpnn_arch.diagnostics.peak import fma_peak
from mpnn_arch.diagnostics.timing import interleaved, machine
from mpnn_arch.kernels import cpu

PASSES = ("forward", "dx", "dW")
MAPS = ((1, 16, 16), (3, 32, 4), (3, 16, 16), (3, 8, 16))  # kernel, pixels a side, batch
Passes = Mapping[str, tuple[Callable[[], object], Callable[[], object]]]


def shares(passes: Passes, ours: float, dense: float, turns: int, peak: float) -> list[str]:
    """Per pass, the round's share of the peak and the dense product's, of so many operations."""
    cells = []
    for name in PASSES:
        timed = interleaved(dict(zip(("ours", "dense"), passes[name], strict=True)), turns)
        own, other = timed["ours"].median, timed["dense"].median
        cells.append(f"{ours / own / peak:.0%} ({dense / other / peak:.0%})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--conv", action="store_true", help="convolutions instead")
    parser.add_argument("--dtype", default="float32", help="or bfloat16, float64")
    options = parser.parse_args()
    torch.set_default_dtype(getattr(torch, options.dtype))
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    peak = fma_peak(torch.get_default_dtype(), options.threads)
    if peak is None:
        raise SystemExit(
            cpu.unavailable_reason() or f"this processor multiplies no {options.dtype} by itself"
        )
    table = Table("block density, width", "case", *PASSES, title="share of the peak (dense)")
    graphs = spread_graphs(52)
    for density in (0.14, 0.42, 0.96):
        graph = min(graphs, key=lambda g: abs(g.block_density - density))
        reference = CHANNELS if options.conv else WIDTH
        width = matched(graph, None, reference**2)
        plan = plan_of(graph, width, width)
        if options.conv:
            for kernel, size, batch in MAPS:
                each = 2.0 * batch * (size * kernel) ** 2
                cells = shares(
                    conv_passes(plan, batch, size, kernel),
                    each * plan.num_weights,
                    each * reference**2,
                    options.turns,
                    peak,
                )
                table.add_row(
                    f"{density}, {width}", f"{kernel} x {kernel}, {size} x {size}", *cells
                )
            continue
        for batch in options.batch:
            cells = shares(
                linear_passes(plan, batch),
                2.0 * batch * plan.num_weights,
                2.0 * batch * reference**2,
                options.turns,
                peak,
            )
            table.add_row(f"{density}, {width}", f"batch {batch}", *cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"peak: {peak / 1e9:.0f} GFLOP/s in {options.dtype}, {options.threads} threads")
    for name, value in machine("cpu").items():
        console.print(f"{name}: {value}", highlight=False)


if __name__ == "__main__":
    main()
