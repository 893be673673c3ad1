"""``mpnn-arch bench``: the time of a step on a graph, against a dense layer of equal cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpnn_arch.checks import LARGEST_COUNT, check_choice
from mpnn_arch.cli import completion
from mpnn_arch.cli.numbers import check_count
from mpnn_arch.cli.options import device_option, graphs_option, threads_option

if TYPE_CHECKING:
    from rich.table import Table

    from mpnn_arch.diagnostics.receipt import Line


@click.command(short_help="Time a round against the dense layer of equal cost.")
@graphs_option("six ws_flex graphs")
@click.option("--batch-size", "--batch", default=128, show_default=True, help="Rows of the input.")
@click.option("--width", default=512, show_default=True, help="Channels of the dense layer.")
@click.option("--repeats", default=25, show_default=True, help="Timed repeats of each backend.")
@device_option()
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    shell_complete=completion.dtypes,
    help="float32, float64, bfloat16 or float16.",
)
@threads_option("torch's choice")
@click.option("--quick", is_flag=True, help="Three default graphs, at most seven repeats.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory for bench.csv and .png")
def bench(
    graphs: tuple[str, ...],
    batch_size: int,
    width: int,
    repeats: int,
    device: str,
    dtype: str,
    threads: int | None,
    quick: bool,
    out: Path | None,
) -> None:
    """Write a speed receipt: time per step of one round against its equal-cost dense layer.

    For every graph the round is as wide as the dense layer's multiply-adds allow. A step is
    forward and backward, for input and weights. Every available backend is timed, interleaved with
    the dense layer and the round on the complete graph. The dense layer runs on torch's default
    library and, on the CPU in float32, on oneDNN; rounds are rated against the quicker one, and as
    a share of the processor's measured peak.
    """
    check_count("batch-size", batch_size, LARGEST_COUNT)
    check_count("width", width, LARGEST_COUNT)
    check_count("repeats", repeats, 1_000_000)
    if threads is not None:  # many more overflow the stack in OpenMP
        check_count("threads", threads, max(64, os.cpu_count() or 1))
    check_choice("dtype", dtype, completion.DTYPES)

    import torch

    from mpnn_arch.cli.output import new_console, print_table
    from mpnn_arch.diagnostics.receipt import DEFAULT_GRAPHS, receipt, write_csv, write_plot
    from mpnn_arch.diagnostics.timing import machine
    from mpnn_arch.graphs import parse
    from mpnn_arch.io.figures import new_figure
    from mpnn_arch.io.files import check_folder, make_folder
    from mpnn_arch.training.devices import find_device

    if out is not None:
        new_figure(1, 1)  # fails before the timing if matplotlib is missing
        check_folder(out)
    if threads is not None:
        torch.set_num_threads(threads)
    where = find_device(device)
    chosen = {}
    for spec in graphs or (DEFAULT_GRAPHS[::2] if quick else DEFAULT_GRAPHS):
        found = parse(spec)
        for index, graph in enumerate(found):
            chosen[spec if len(found) == 1 else f"{spec} {index}"] = graph
    lines = receipt(
        chosen,
        batch=batch_size,
        width=width,
        repeats=min(repeats, 7) if quick else repeats,
        device=where,
        dtype=getattr(torch, dtype),
    )

    table = _table(f"forward and backward, batch {batch_size}, {dtype}, ms", lines)
    console = new_console()
    print_table(console, table)
    environment = machine(where)
    for key, text in environment.items():
        console.print(f"{key}: {text}", highlight=False)
    if out is not None:
        make_folder(out)
        write_csv(lines, out / "bench.csv", environment)
        write_plot(lines, out / "bench.png", environment)
        console.print(f"written: {out / 'bench.csv'}, {out / 'bench.png'}", highlight=False)


def _table(title: str, lines: Sequence[Line]) -> Table:
    from rich.table import Table

    backends = list(dict.fromkeys(name for line in lines for name in line.seconds))
    dense = [f"dense ({library})" for library in lines[0].rivals]
    table = Table(title=title)
    for name in ("graph", "density", "width", "multiply-adds", *dense, "complete", *backends):
        table.add_column(name, justify="left" if name == "graph" else "right", no_wrap=True)
    for name in ("picked", "auto/dense", "peak", "spread"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            line.graph,
            f"{line.block_density:.3f}",
            str(line.width),
            f"{line.multiply_adds:,}",
            *(f"{seconds * 1e3:.2f}" for seconds in line.rivals.values()),
            f"{line.complete * 1e3:.2f}",
            *(f"{line.seconds[name] * 1e3:.2f}" for name in backends),
            line.picked,
            f"{line.ratio:.2f}",
            "" if line.peak_share is None else f"{line.peak_share:.0%}",
            f"{line.spread:.0%}",
        )
    return table
