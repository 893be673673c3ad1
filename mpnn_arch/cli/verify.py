"""``mpnn-arch verify``: whether all implementations of a layer agree."""

from __future__ import annotations

import sys

import click

from mpnn_arch.checks import LARGEST_COUNT
from mpnn_arch.cli.numbers import check_count
from mpnn_arch.errors import InputError


@click.command()
@click.option("--graph", default="ws_flex:64,8.5,0.1,0", show_default=True, help="Graph spec.")
@click.option("--in", "in_channels", default=250, show_default=True, help="Input channels.")
@click.option("--out", "out_channels", default=300, show_default=True, help="Output channels.")
@click.option("--batch", default=32, show_default=True, help="Number of random inputs.")
@click.option("--dtype", default="float64", show_default=True, help="float32 or float64.")
@click.option("--kernel-size", type=int, help="Verify a conv round with this (odd) kernel size.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and inputs.")
@click.option("--tolerance", type=float, help="Largest accepted difference  [default: by dtype]")
def verify(
    graph: str,
    in_channels: int,
    out_channels: int,
    batch: int,
    dtype: str,
    kernel_size: int | None,
    device: str,
    seed: int,
    tolerance: float | None,
) -> None:
    """Compute one layer with every implementation and compare outputs and gradients.

    The reference passes messages along every edge. A difference is the largest absolute difference
    over the largest absolute value of the reference. Exits with 1 if one exceeds the tolerance.
    """
    from rich.console import Console
    from rich.table import Table

    if dtype not in ("float32", "float64"):
        raise InputError(
            f"there is no dtype {dtype!r} to verify in; choose one of float32, float64"
        )
    check_count("in", in_channels, LARGEST_COUNT)
    check_count("out", out_channels, LARGEST_COUNT)
    check_count("batch", batch, LARGEST_COUNT)
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

    from mpnn_arch import graphs
    from mpnn_arch.diagnostics.agreement import TOLERANCE, compare_backends
    from mpnn_arch.training.devices import find_device

    parsed = graphs.parse(graph)
    if len(parsed) != 1:
        raise InputError(f"--graph {graph!r} names {len(parsed)} graphs; give one")
    torch_dtype = getattr(torch, dtype)
    limit = TOLERANCE[torch_dtype] if tolerance is None else tolerance
    found = compare_backends(
        parsed[0],
        in_channels,
        out_channels,
        batch_size=batch,
        kernel_size=kernel_size,
        dtype=torch_dtype,
        device=find_device(device),
        seed=seed,
    )

    quantities = next(a.differences for a in found if a.differences)
    kind = "conv" if kernel_size else "linear"
    title = (
        f"{parsed[0]!r}\n{in_channels} -> {out_channels}, {kind}, {dtype}, against message passing"
    )
    table = Table(title=title)
    table.add_column("implementation")
    for quantity in quantities:
        table.add_column(quantity, justify="right")
    table.add_column("")
    for agreement in found:
        if agreement.unavailable is not None:
            table.add_row(agreement.name, *["-"] * len(quantities), "unavailable")
            continue
        verdict = "agrees" if agreement.largest <= limit else "[red]differs[/red]"
        values = [f"{value:.1e}" for value in agreement.differences.values()]
        table.add_row(agreement.name, *values, verdict)
    console = Console()
    console.print(table)
    for agreement in found:
        if agreement.unavailable is not None:
            console.print(f"{agreement.name}: {agreement.unavailable}", markup=False)
    largest = max(agreement.largest for agreement in found)
    console.print(f"largest difference {largest:.1e}, tolerance {limit:.1e}")
    if largest > limit:
        sys.exit(1)
