"""The README's figure: the messages of one round, and the equivalent block matrix.

python experiments/fig_layer_is_a_round.py [--out experiments/figures/layer_is_a_round.png]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from mpnn_arch import ChannelPartition, RelationalGraph, RelationalLinear
from mpnn_arch.cli.failures import run_script
from mpnn_arch.cli.output import check_picture
from mpnn_arch.io.files import write_whole

COLORS = ["#3b6fb6", "#d9822b", "#4a9a5b", "#a3489b"]


def draw_graph(axes: Axes, graph: RelationalGraph, sizes: tuple[int, ...]) -> None:
    angle = np.pi / 2 - 2 * np.pi * np.arange(graph.num_nodes) / graph.num_nodes
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for source, target in graph.edge_index.T.tolist():
        if source == target:
            loop = place[source] * 1.36
            axes.add_patch(Circle(loop, 0.17, fill=False, color=COLORS[source], lw=1.6))
        else:
            axes.add_patch(
                FancyArrowPatch(
                    place[source],
                    place[target],
                    connectionstyle="arc3,rad=0.12",
                    arrowstyle="-|>",
                    mutation_scale=13,
                    shrinkA=22,
                    shrinkB=22,
                    color=COLORS[source],
                    lw=1.6,
                )
            )
    for node, (x, y) in enumerate(place):
        axes.add_patch(Circle((x, y), 0.27, color=COLORS[node], zorder=3))
        label = f"$x_{node}$\n{sizes[node]}"
        axes.text(x, y, label, ha="center", va="center", color="white", zorder=4, fontsize=11)
    axes.set(xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), aspect="equal")
    axes.set_title("one round of messages", fontsize=12)
    axes.axis("off")


def draw_matrix(axes: Axes, layer: RelationalLinear) -> None:
    weight = layer.dense_weight().detach().abs()
    weight = (weight / weight.max()).numpy()
    offsets = layer.in_partition.offsets
    picture = np.ones((*weight.shape, 3))
    for node in range(layer.graph.num_nodes):
        columns = slice(offsets[node], offsets[node + 1])
        strength = (0.25 + 0.75 * weight[:, columns, None]) * (weight[:, columns, None] > 0)
        picture[:, columns] = 1 - strength * (1 - np.array(to_rgb(COLORS[node])))
    axes.imshow(picture, interpolation="nearest")
    for source, target in layer.graph.edge_index.T.tolist():
        low, left = layer.out_partition.offsets[target], offsets[source]
        height, width = layer.out_partition.sizes[target], layer.in_partition.sizes[source]
        axes.add_patch(
            Rectangle((left - 0.5, low - 0.5), width, height, fill=False, color="0.25", lw=0.8)
        )
        axes.text(
            left + width / 2 - 0.5,
            low + height / 2 - 0.5,
            f"$W_{{{target}{source}}}$",
            ha="center",
            va="center",
            fontsize=11,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
        )
    ticks = [offset - 0.5 for offset in offsets]
    axes.set_xticks(ticks, [str(offset) for offset in offsets], fontsize=8)
    axes.set_yticks(ticks, [str(offset) for offset in offsets], fontsize=8)
    axes.set_title(f"one {weight.shape[0]} x {weight.shape[1]} matrix, {len(layer.weight)} weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "figures" / "layer_is_a_round.png")
    out = parser.parse_args().out
    check_picture(out)

    # The paper's example: 65 channels on 4 nodes, here without the edge between nodes 0 and 2.
    graph = RelationalGraph(4, [[0, 1, 2, 3, 1], [1, 2, 3, 0, 3]])
    shares = ChannelPartition.from_sizes([16, 16, 16, 17])
    generator = torch.Generator().manual_seed(0)
    layer = RelationalLinear(graph, shares, shares, generator=generator)

    figure = Figure(figsize=(9.5, 4.6))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    draw_graph(left, graph, shares.sizes)
    draw_matrix(right, layer)
    figure.text(0.5, 0.5, "=", ha="center", va="center", fontsize=30)
    figure.tight_layout(w_pad=4)
    write_whole(out, lambda temporary: figure.savefig(temporary, dpi=110))
    print(f"wrote {out}")


if __name__ == "__main__":
    run_script(main)
