"""Shared by the benchmarks: the published graphs, equal-cost widths, the table of goals."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mpnn_arch import RelationalGraph
from mpnn_arch.diagnostics.timing import machine
from mpnn_arch.graphs import published
from mpnn_arch.io.files import write_text
from mpnn_arch.models.round_cost import round_cost

# The published lists beside the checkout; if they are not there, they are fetched.
PUBLISHED = Path(__file__).parents[2].parent / "shared/published"


@dataclass
class Row:
    """One line of the table of goals: ratios, one per graph, and their limit."""

    what: str
    ratios: list[float]
    goal: str
    aim: str
    spread: float
    higher_is_better: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def worst(self) -> float:
        return min(self.ratios) if self.higher_is_better else max(self.ratios)


def arguments(description: str | None, *, batches: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="six graphs, a few repeats")
    parser.add_argument("--graphs", type=Path, help="folder with the published lists of graphs")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure processor time, not wall time: for a busy machine, with --threads 1",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    parser.add_argument("--out", type=Path, help="directory for a CSV with every graph")
    if batches:
        parser.add_argument("--batch", type=int, nargs="+", help="sizes, in place of its own")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.clock = time.process_time if options.cpu_time else time.perf_counter
    if options.quick:
        options.repeats = min(options.repeats, 7)
    return options


def published_graphs(options: argparse.Namespace) -> list[RelationalGraph]:
    """The paper's 52 graphs of 64 nodes by density; six of them if quick."""
    return spread_graphs(6 if options.quick else 0, options.graphs)


def spread_graphs(limit: int, folder: Path | None = None) -> list[RelationalGraph]:
    """``limit`` of the paper's 52 graphs, spread evenly over their densities; all if 0."""
    root = folder or (PUBLISHED if PUBLISHED.is_dir() else None)
    graphs = sorted(published(64, 52, root), key=lambda graph: graph.block_density)
    if not 0 < limit < len(graphs):
        return graphs
    return [graphs[round(i * (len(graphs) - 1) / max(limit - 1, 1))] for i in range(limit)]


def equal_width(graph: RelationalGraph, first: int | None, reference: int, rounds: int) -> int:
    """The largest width whose rounds cost no more than ``reference`` multiply-adds.

    ``first`` is the input width of the first round; None if it equals the width of the others.
    """
    cost = round_cost(graph).multiply_adds

    def total(width: int) -> int:
        return cost(first or width, width) + (rounds - 1) * cost(width, width)

    low, high = graph.num_nodes, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= reference else (low, middle)
    return low


def report(rows: Sequence[Row], options: argparse.Namespace, title: str) -> None:
    """Print the table and the machine."""
    table = Table("what", "median", "worst", "goal", "aim", "graphs", "spread", title=title)
    for row in rows:
        table.add_row(
            row.what,
            f"{row.median:.2f}",
            f"{row.worst:.2f}",
            row.goal,
            row.aim,
            str(len(row.ratios)),
            f"{row.spread:.0%}",
        )
    console = Console(width=120)
    console.print(table)
    if options.cpu_time:
        console.print("clock: processor time")
    for name, value in machine(options.device).items():
        console.print(f"{name}: {value}", highlight=False)


def write_csv(rows: Sequence[dict[str, object]], options: argparse.Namespace, name: str) -> None:
    """One line per graph, with the machine in every line."""
    if options.out is None or not rows:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    environment = machine(options.device)
    names = list(dict.fromkeys(key for row in rows for key in row)) + list(environment)
    lines = [",".join(names)]
    for row in rows:
        full = {**row, **environment}
        lines.append(",".join(f'"{full.get(name, "")}"' for name in names))
    write_text(options.out / name, "\n".join(lines) + "\n")
