"""``mpnn-arch verify``: whether all implementations of a layer agree."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mpnn_arch.checks import LARGEST_COUNT, check_choice
from mpnn_arch.cli import completion
from mpnn_arch.cli.numbers import check_count
from mpnn_arch.cli.options import device_option, graphs_option
from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from mpnn_arch.diagnostics.agreement import Agreement

DEFAULT_GRAPH = "ws_flex:64,8.5,0.1,0"


@click.command(short_help="Compare the implementations of one layer.")
@graphs_option(DEFAULT_GRAPH)
@click.option("--in-channels", default=250, show_default=True, help="Input channels.")
@click.option("--out-channels", default=300, show_default=True, help="Output channels.")
@click.option("--batch-size", "--batch", default=32, show_default=True, help="Random inputs.")
@click.option(
    "--dtype",
    default="float64",
    show_default=True,
    shell_complete=completion.dtypes,
    help="float32, float64, bfloat16 or float16.",
)
@click.option("--kernel-size", type=int, help="Verify a conv round with this (odd) kernel size.")
@device_option()
@click.option("--seed", default=0, show_default=True, help="Seed of weights and inputs.")
@click.option("--tolerance", type=float, help="Largest accepted difference  [default: by dtype]")
def verify(
    graphs: tuple[str, ...],
    in_channels: int,
    out_channels: int,
    batch_size: int,
    dtype: str,
    kernel_size: int | None,
    device: str,
    seed: int,
    tolerance: float | None,
) -> None:
    """Compute one layer with every implementation and compare outputs and gradients.

    The reference passes messages along every edge, in float32 where the dtype has 16 bits. A
    difference is the largest absolute difference over the largest absolute value of the reference.
    Exits with 1 if one exceeds the tolerance.
    """
    check_choice("dtype", dtype, completion.DTYPES)
    check_count("in-channels", in_channels, LARGEST_COUNT)
    check_count("out-channels", out_channels, LARGEST_COUNT)
    check_count("batch-size", batch_size, LARGEST_COUNT)
    if seed < 0:
        raise InputError(f"--seed is at least 0, {seed} was given; choose another")
    if kernel_size is not None and (not 1 <= kernel_size <= 15 or kernel_size % 2 == 0):
        raise InputError(
            f"--kernel-size is odd and at least 1, {kernel_size} was given; on maps of 8 x 8 "
            "pixels it is at most 15"
        )
    if tolerance is not None and not tolerance >= 0:
        raise InputError(f"--tolerance is at least 0, {tolerance} was given")

    import torch

    from mpnn_arch.cli.output import new_console, print_table
    from mpnn_arch.diagnostics.agreement import TOLERANCE, compare_backends
    from mpnn_arch.graphs import parse
    from mpnn_arch.training.devices import find_device

    torch_dtype = getattr(torch, dtype)
    limit = TOLERANCE[torch_dtype] if tolerance is None else tolerance
    where = find_device(device)
    kind = "conv" if kernel_size else "linear"
    console = new_console()
    largest = 0.0
    for graph in [made for spec in graphs or (DEFAULT_GRAPH,) for made in parse(spec)]:
        found = compare_backends(
            graph,
            in_channels,
            out_channels,
            batch_size=batch_size,
            kernel_size=kernel_size,
            dtype=torch_dtype,
            device=where,
            seed=seed,
        )
        title = (
            f"{graph!r}\n{in_channels} -> {out_channels}, {kind}, {dtype}, against message passing"
        )
        print_table(console, _table(title, found, limit))
        for agreement in found:
            if agreement.unavailable is not None:
                console.print(f"{agreement.name}: {agreement.unavailable}")
        largest = max(largest, *(agreement.largest for agreement in found))
    if where.type == "cpu":
        from mpnn_arch.kernels import cpu

        console.print(f"cpu: {cpu.describe()}", highlight=False)
    console.print(f"largest difference {largest:.1e}, tolerance {limit:.1e}")
    if largest > limit:
        sys.exit(1)


def _table(title: str, found: list[Agreement], limit: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    quantities = next(a.differences for a in found if a.differences)
    table = Table(title=title)
    table.add_column("implementation")
    for quantity in quantities:
        table.add_column(quantity, justify="right")
    table.add_column("")
    for agreement in found:
        if agreement.unavailable is not None:
            table.add_row(agreement.name, *["-"] * len(quantities), "unavailable")
            continue
        verdict = "agrees" if agreement.largest <= limit else Text("differs", style="red")
        values = [f"{value:.1e}" for value in agreement.differences.values()]
        table.add_row(agreement.name, *values, verdict)
    return table
