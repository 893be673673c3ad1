"""The speed receipt of a round: time per step on each backend, at equal multiply-adds."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mpnn_arch.diagnostics.peak import fma_peak
from mpnn_arch.diagnostics.rivals import dense_rivals
from mpnn_arch.diagnostics.timing import interleaved
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph, generate
from mpnn_arch.graphs.given import GivenGraph, as_graph, as_named_graphs
from mpnn_arch.io.figures import new_figure, save_figure
from mpnn_arch.io.files import write_text
from mpnn_arch.kernels.backends import candidates
from mpnn_arch.models.round_cost import round_cost
from mpnn_arch.rounds import RelationalLinear

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_GRAPHS = tuple(f"ws_flex:64,{degree},0.1,0" for degree in (4, 8, 12, 20, 32, 50))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the receipt, for one graph; times are medians, in seconds.

    Attributes:
        graph: its name.
        block_density: entries of the adjacency matrix that are 1, self-loops included, over N^2.
        width: number of input and of output channels.
        multiply_adds: of one sample's forward pass.
        dense: time of the dense layer of (nearly) equal cost, by the quicker of ``rivals``.
        rivals: its time by the library of its products, ``"torch"`` (its default) and, on the CPU
            in float32, ``"onednn"``.
        complete: time of the round on the complete graph, as wide as the dense layer.
        seconds: time of each available backend, and of ``"auto"``.
        picked: the backend that auto selected.
        ratio: auto over dense, at equal multiply-adds.
        peak_share: auto's multiply-adds a second over the processor's measured peak
            (:func:`~mpnn_arch.diagnostics.peak.fma_peak`); None where that is unknown.
        spread: half the interquartile range over the median, of auto.
    """

    graph: str
    block_density: float
    width: int
    multiply_adds: int
    dense: float
    rivals: dict[str, float]
    complete: float
    seconds: dict[str, float]
    picked: str
    ratio: float
    peak_share: float | None
    spread: float


def receipt(
    graphs: Mapping[str, GivenGraph],
    *,
    batch: int = 128,
    width: int = 512,
    repeats: int = 25,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Line]:
    """Time one round on every graph, forward and backward for input and weights.

    Args:
        graphs: by name, of any size and density, or their specifications.
        batch: samples per step.
        width: channels of the dense layer whose multiply-adds every round matches.
        repeats: timed turns; candidates and the dense layer are interleaved.
        device: to run on.
        dtype: of weights and input.

    Raises:
        InputError: a graph with more nodes than channels at the dense layer's cost.

    Example:
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.diagnostics.receipt import receipt
        >>> lines = receipt({"ring": graphs.ring(16, 4)}, batch=4, width=32, repeats=3)
        >>> len(lines)
        1
    """
    graphs = as_named_graphs(graphs)
    device = torch.device(device)
    placement: dict[str, Any] = {"device": device, "dtype": dtype}
    generator = torch.Generator().manual_seed(0)

    def draw(channels: int) -> Tensor:
        return torch.randn(batch, channels, generator=generator).to(**placement).requires_grad_()

    def step(layer: nn.Module, x: Tensor) -> Callable[[], object]:
        inputs = (x, *layer.parameters())

        def run() -> object:
            y = layer(x)
            return torch.autograd.grad(y, inputs, torch.ones_like(y))

        return run

    def linear(graph: RelationalGraph, channels: int, backend: str) -> RelationalLinear:
        init: dict[str, Any] = {"generator": generator, "order": "published"}
        return RelationalLinear(graph, channels, channels, bias=False, backend=backend, **init).to(
            **placement
        )

    narrow, available = draw(width), candidates(device.type, dtype)
    dense = dense_rivals(width, device, dtype)
    peak = fma_peak(dtype, torch.get_num_threads()) if device.type == "cpu" else None
    lines = []
    for name, graph in graphs.items():
        channels = equal_cost_width(graph, width * width)
        x = draw(channels)
        rounds = {backend: linear(graph, channels, backend) for backend in (*available, "auto")}
        complete = linear(
            generate("complete", graph.num_nodes), max(width, graph.num_nodes), "auto"
        )
        runs = {f"backend {backend}": step(layer, x) for backend, layer in rounds.items()}
        timed = interleaved(
            {
                **{f"dense {library}": step(layer, narrow) for library, layer in dense.items()},
                "complete": step(complete, draw(complete.in_channels)),
                **runs,
            },
            repeats,
            device=device,
        )
        auto = rounds["auto"]
        rivals = {library: timed[f"dense {library}"].median for library in dense}
        share = auto.plan.num_weights / width**2
        operations = 3 * 2 * batch * auto.multiply_adds()  # three products
        seconds = {backend: timed[f"backend {backend}"].median for backend in rounds}
        picked = list(auto.backend_choices.values())
        lines.append(
            Line(
                graph=name,
                block_density=graph.block_density,
                width=channels,
                multiply_adds=auto.multiply_adds(),
                dense=min(rivals.values()),
                rivals=rivals,
                complete=timed["complete"].median,
                seconds=seconds,
                picked=picked[-1] if picked else "dense",
                ratio=seconds["auto"] / min(rivals.values()) / share,
                peak_share=operations / seconds["auto"] / peak if peak else None,
                spread=timed["backend auto"].spread,
            )
        )
    return lines


def equal_cost_width(graph: GivenGraph, multiply_adds: int) -> int:
    """The largest width at which a round costs at most ``multiply_adds``.

    Raises:
        InputError: one channel per node already costs more.
    """
    graph = as_graph(graph)
    cost = round_cost(graph).multiply_adds
    low, high = graph.num_nodes, 2 * multiply_adds
    if cost(low, low) > multiply_adds:
        raise InputError(
            f"a graph of {graph.num_nodes} nodes costs {cost(low, low)} multiply-adds with one "
            f"channel per node, more than the dense layer's {multiply_adds}; give a larger --width"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle, middle) <= multiply_adds else (low, middle)
    return low


def write_csv(lines: Sequence[Line], path: Path, machine: Mapping[str, str]) -> None:
    """One row per graph, with the machine in every row."""
    rows = []
    for line in lines:
        times = {f"{name}_ms": 1e3 * seconds for name, seconds in line.seconds.items()}
        rows.append(
            {
                "graph": line.graph,
                "block_density": line.block_density,
                "width": line.width,
                "multiply_adds": line.multiply_adds,
                "dense_ms": 1e3 * line.dense,
                **{f"dense_{library}_ms": 1e3 * s for library, s in line.rivals.items()},
                "complete_ms": 1e3 * line.complete,
                **times,
                "picked": line.picked,
                "auto_over_dense": line.ratio,
                "peak_share": line.peak_share,
                "spread": line.spread,
                **machine,
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_plot(lines: Sequence[Line], path: Path, machine: Mapping[str, str]) -> None:
    """Write :func:`draw_receipt` to ``path``.

    Raises:
        InputError: matplotlib is not installed.
    """
    save_figure(draw_receipt(lines, machine), path)


def draw_receipt(lines: Sequence[Line], machine: Mapping[str, str]) -> Figure:
    """Time against density, one line per backend.

    Args:
        lines: of :func:`receipt`.
        machine: see :func:`~mpnn_arch.diagnostics.timing.machine`.

    Raises:
        InputError: matplotlib is not installed.
    """
    lines = sorted(lines, key=lambda line: line.block_density)
    density = [line.block_density for line in lines]
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for name in lines[0].seconds:
        style: dict[str, Any] = {}
        if name == "auto":
            # Around the marker of the backend that it picked.
            style = {"color": "black", "linewidth": 2.5, "zorder": 0, "markersize": 9}
        values = [line.seconds[name] * 1e3 for line in lines]
        axes.plot(density, values, marker="o", label=name, **{"markersize": 4} | style)
    # Its marker is what shows of it beside a single graph.
    dense = [line.dense * 1e3 for line in lines]
    axes.plot(density, dense, "--", marker="D", markersize=5, color="gray", label="dense")
    axes.set(
        xlabel="block density of the graph",
        ylabel="forward and backward (ms)",
        yscale="log",
        title="One round at equal multiply-adds",
    )
    axes.legend(fontsize="small")
    where = machine.get("gpu", machine["processor"])
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != '1')}"
    figure.supxlabel(f"{where}, {threads}, torch {machine['torch']}", fontsize=7)
    return figure
