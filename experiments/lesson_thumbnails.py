"""The thumbnails of the lessons, each of what its lesson shows.

    python experiments/lesson_thumbnails.py [--published PATH] [--out experiments/figures]

Writes ``lesson_1.png`` to ``lesson_8.png``, each below 60 kB. Without ``--published`` (the folder
of the published results) the seventh is left as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mpnn_arch import ChannelPartition, RelationalConv2d, RelationalGraph, RelationalLinear, graphs
from mpnn_arch.analysis import draw_landscape, learned_graph, published_results
from mpnn_arch.cli.failures import run_script
from mpnn_arch.diagnostics.receipt import equal_cost_width
from mpnn_arch.graphs import measure, parse_one
from mpnn_arch.io.figures import as_png, new_figure
from mpnn_arch.io.files import write_whole
from mpnn_arch.models import build
from mpnn_arch.rounds import MessageRound
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset
from mpnn_arch.widget.decoded import DecodedScene
from mpnn_arch.widget.recording import input_for, record
from mpnn_arch.widget.scene import make_scene
from mpnn_arch.widget.still_panels import Part, draw_graph, draw_matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 80
MOST_BYTES = 60_000


def decoded(layer: MessageRound) -> DecodedScene:
    """One random sample's way through ``layer``."""
    return DecodedScene(make_scene(record(layer, input_for(layer, None, 0))[""]))


def bare(axes: object, title: str = "") -> None:
    """Without labels, which would be too small to read."""
    axes.set(xlabel="", ylabel="")  # type: ignore[attr-defined]
    axes.set_title(title, fontsize=10)  # type: ignore[attr-defined]


def rounds(layers: dict[str, MessageRound], matrices: bool = True) -> Figure:
    """Graph and matrix of every layer, side by side."""
    figure = new_figure(3 * len(layers) * (1 + matrices), 2.9)
    axes = iter(np.atleast_1d(figure.subplots(1, len(layers) * (1 + matrices))))
    for title, layer in layers.items():
        scene = decoded(layer)
        graph = next(axes)
        draw_graph(graph, scene, scene.num_steps, Part(None, 0))
        bare(graph, title)
        if matrices:
            matrix = next(axes)
            draw_matrix(matrix, scene, Part(None, 0))
            bare(matrix)
    return figure


def lesson_1(generator: torch.Generator) -> Figure:
    """The paper's example without one edge."""
    graph = RelationalGraph(4, [[0, 1, 2, 3, 1], [1, 2, 3, 0, 3]])
    shares = ChannelPartition.from_sizes([16, 16, 16, 17])
    return rounds({"": RelationalLinear(graph, shares, shares, generator=generator)})


def lesson_2(generator: torch.Generator) -> Figure:
    """A number, a matrix and kernels on the edges of one graph."""
    ring = graphs.ring(8, 4)
    layers = {
        "a number": RelationalLinear(ring, 8, 8, generator=generator),
        "a matrix": RelationalLinear(ring, 24, 40, generator=generator),
        "3 x 3 kernels": RelationalConv2d(ring, 8, 8, 3, padding=1, generator=generator),
    }
    figure = new_figure(8.4, 2.9)
    for axes, (title, layer) in zip(figure.subplots(1, 3), layers.items(), strict=True):
        draw_matrix(axes, decoded(layer), None)
        bare(axes, title)
    return figure


def lesson_3(generator: torch.Generator) -> Figure:
    """The same weights with other aggregations."""
    layers: dict[str, MessageRound] = {}
    for aggr in ("sum", "mean", "max"):
        again = torch.Generator().manual_seed(1)
        layers[aggr] = RelationalLinear(
            graphs.ring(8, 4), 32, 32, aggr=aggr, activation="relu", generator=again
        )
    return rounds(layers, matrices=False)


def lesson_4(generator: torch.Generator) -> Figure:
    """One matrix on every edge."""
    kind = "shared_linear"
    layer = RelationalLinear(graphs.ring(8, 4), 32, 32, message=kind, generator=generator)
    return rounds({"": layer})


def lesson_5(generator: torch.Generator) -> Figure:
    """Families in the plane of C and L."""
    figure = new_figure(6, 3)
    axes = figure.subplots()
    families = {
        "ws_flex": list(graphs.sample(64, 449)),
        "ring": [parse_one(f"ring:64,{k}") for k in range(2, 60, 4)],
        "er": [parse_one(f"er:64,{e},0") for e in range(200, 1900, 200)],
        "ba": [parse_one(f"ba:64,{m},0") for m in (2, 4, 8, 16, 24)],
        "complete": [parse_one("complete:64")],
    }
    for marker, (name, listed) in zip(".os^X", families.items(), strict=True):
        table = measure(listed)
        style = {"color": "#b8c1cc"} if name == "ws_flex" else {"ms": 5}
        axes.plot(*table.to_numpy().T[:2], marker, label=name, **style)
    axes.set(xlabel="C", ylabel="L", ylim=(0.9, 5))
    axes.legend(fontsize=8)
    return figure


def lesson_6(generator: torch.Generator) -> Figure:
    """Width at equal cost."""
    listed = [parse_one(f"ws_flex:64,{degree},0.1,0") for degree in (4, 6, 8, 12, 20, 32, 50)]
    density = [graph.block_density for graph in listed]
    figure = new_figure(6, 3)
    axes = figure.subplots()
    line = np.linspace(min(density), 1, 60)
    axes.plot(line, 512 / np.sqrt(line), color="#b8c1cc")
    axes.plot(density, [equal_cost_width(graph, 512 * 512) for graph in listed], "o")
    axes.plot(1, 512, "s", color="#D55E00", label="dense layer")
    axes.set(xlabel="density of the graph", ylabel="width at equal cost")
    axes.legend()
    return figure


def lesson_7(published: Path) -> Figure:
    """The landscape of the published MLPs."""
    figure = new_figure(6, 3.6)
    axes = figure.subplots()
    draw_landscape(published_results(published)[0].table, ax=axes)
    return figure


def lesson_8(generator: torch.Generator) -> Figure:
    """Edge values of a dense MLP before and after training."""
    data = load_dataset("digits")
    model = build("mlp", in_features=data.num_features, hidden_features=256, seed=0)
    figure = new_figure(6, 3)
    axes = figure.subplots(1, 2)
    trainer = Trainer(model, data, TrainingConfig(epochs=20), generator=generator)
    for ax, when in zip(axes, ("before training", "after"), strict=True):
        while when == "after" and not trainer.finished:
            trainer.train_epoch()
        values = learned_graph(model, 32, density=0.25).edge_values
        ax.imshow(np.where(np.eye(32, dtype=bool), np.nan, values), cmap="viridis")
        ax.set_axis_off()
        ax.set_title(when, fontsize=10)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--published", type=Path, help="folder of the published results")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    made = {
        number: make(torch.Generator().manual_seed(0))
        for number, make in enumerate(
            (lesson_1, lesson_2, lesson_3, lesson_4, lesson_5, lesson_6), start=1
        )
    }
    if args.published is not None:
        made[7] = lesson_7(args.published)
    made[8] = lesson_8(torch.Generator().manual_seed(0))
    for number, figure in made.items():
        picture = as_png(figure, DPI)
        path = args.out / f"lesson_{number}.png"
        write_whole(path, lambda temporary, made=picture: temporary.write_bytes(made))
        print(f"{path}: {len(picture):,} bytes")
        assert len(picture) < MOST_BYTES


if __name__ == "__main__":
    run_script(main)
