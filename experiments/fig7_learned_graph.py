"""The graph that the dense MLP learns, before, during and after training: the paper's Figure 7.

    python experiments/fig7_learned_graph.py --small     # minutes on 2 cores, MNIST digits
    python experiments/fig7_learned_graph.py             # the paper's setting: CIFAR-10, 200 epochs

The square hidden weights of a dense MLP are read as a graph of 64 nodes
(``mpnn_arch.analysis.learned_graph``) at initialisation, after every epoch, and at the end. The
threshold is swept; the path through C and L is drawn at several densities. Every learned graph is
compared with random graphs of as many edges, and with rewired ones of equal degrees: without
structure in the weights, C and L would be those of the first.

Nothing is published of the weights of the paper's networks, so there is no replay. Writes PNG and
SVG, ``fig7_sweep.csv``, ``fig7_training.csv`` and ``fig7_nulls.csv``.

Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 7.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mpnn_arch import InputError, models
from mpnn_arch.analysis import LearnedGraphTracker, learned_graph_sweep
from mpnn_arch.analysis.graph_of_weights import LearnedGraph
from mpnn_arch.checks import check_whole
from mpnn_arch.cli.failures import run_script
from mpnn_arch.graphs import GraphBatch, RelationalGraph, er, rewired
from mpnn_arch.graphs.measures import average_path_length
from mpnn_arch.io.figures import COLOURS, new_figure, save_figure
from mpnn_arch.training import Trainer, TrainingConfig, load_dataset

NUM_NODES = 64
DENSITIES = (0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="mnist5k, 30 epochs, 2 seeds")
    parser.add_argument("--data-root", type=Path, help="folder of downloaded data")
    parser.add_argument("--nulls", type=int, default=10, help="random graphs per learned graph")
    parser.add_argument("--out", type=Path, default=Path("data/fig7"))
    args = parser.parse_args()
    check_whole("nulls", args.nulls, 1)
    args.out.mkdir(parents=True, exist_ok=True)
    name, epochs, seeds = ("mnist5k", 30, 2) if args.small else ("cifar10", 200, 5)
    data = load_dataset(name, args.data_root)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    sweeps, trainings, nulls, values = [], [], [], {}
    for seed in range(seeds):
        model = models.build(
            "mlp", None, in_features=data.num_features, num_classes=data.num_classes, seed=seed
        )
        trainer = Trainer(
            model,
            data,
            TrainingConfig(epochs=epochs),
            generator=torch.Generator().manual_seed(seed),
            device=device,
        )
        trackers = {
            density: LearnedGraphTracker(model, NUM_NODES, density=density) for density in DENSITIES
        }
        for when in ("initial", "trained"):
            metrics: Any = 0
            while when == "trained" and not trainer.finished:
                metrics = trainer.train_epoch()
                if not trainer.finished:
                    for tracker in trackers.values():
                        tracker(metrics)
            sweeps.append(learned_graph_sweep(model, NUM_NODES).assign(seed=seed, when=when))
            for density, tracker in trackers.items():
                found = tracker(metrics)
                nulls += compared(found, args.nulls, seed=seed, when=when, target=density)
            values.setdefault(when, found.edge_values)
        for density, tracker in trackers.items():
            trainings.append(tracker.table.assign(seed=seed, target=density))
        print(f"seed {seed}: test error {metrics.test_error:.2f} % on {name}")
    sweep, training, null = pd.concat(sweeps), pd.concat(trainings), pd.DataFrame(nulls)
    sweep.to_csv(args.out / "fig7_sweep.csv", index=False)
    training.to_csv(args.out / "fig7_training.csv", index=False)
    null.to_csv(args.out / "fig7_nulls.csv", index=False)
    draw(values, sweep, training, null, args.out)
    print(null.drop(columns="seed").groupby(["target", "when", "graph"]).mean().round(3))
    print(f"-> {args.out}")


def compared(found: LearnedGraph, count: int, **row: Any) -> list[dict[str, Any]]:
    """C and L of a learned graph, and means over graphs of as many edges, or of equal degrees."""
    graph = found.graph
    edges = int(graph.degrees.sum()) // 2
    made: dict[str, list[RelationalGraph]] = {"learned": [graph]}
    made["equal edges"] = [er(NUM_NODES, edges, seed) for seed in range(count)]
    try:
        made["equal degrees"] = [rewired(graph, seed) for seed in range(count)]
    except InputError as error:
        print(f"no graphs of equal degrees: {error}")
    rows = []
    for name, listed in made.items():
        batch = GraphBatch.of(listed, reachable_only=True)
        c = [each.clustering_coefficient for each in listed]
        length = average_path_length(batch)
        rows.append({**row, "graph": name, "C": np.mean(c), "L": np.mean(length)})
    return rows


def draw(
    values: dict[str, Any],
    sweep: pd.DataFrame,
    training: pd.DataFrame,
    null: pd.DataFrame,
    out: Path,
) -> None:
    """Edge values before and after, C by density, and the path through C and L."""
    figure = new_figure(14, 3.6)
    axes = figure.subplots(1, 4)
    for ax, (when, matrix) in zip(axes, values.items(), strict=False):
        shown = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
        figure.colorbar(ax.imshow(shown, cmap="viridis"), ax=ax, shrink=0.8)
        ax.set_title(f"edge values, {when}")
    for colour, (when, rows) in zip(COLOURS, sweep.groupby("when"), strict=False):
        mean = rows.groupby(rows["density"].round(6))["clustering_coefficient"].mean()
        axes[2].plot(mean.index, mean, "o-", ms=3, color=colour, label=when)
    axes[2].plot([0, 1], [0, 64 / 63], ":", color="black", label="random, equal edges")
    axes[2].set(xlabel="density", ylabel="C", title="sweep of the threshold")
    axes[2].legend(fontsize=7)
    for colour, (target, rows) in zip(COLOURS, training.groupby("target"), strict=False):
        path = rows.groupby("epoch")[["clustering_coefficient", "average_path_length"]].mean()
        axes[3].plot(*path.to_numpy().T, "-", color=colour, label=f"density {target}")
        axes[3].plot(*path.to_numpy()[-1], "o", color=colour)
        mine = null[(null["target"] == target) & (null["when"] == "trained")]
        rewirings = mine[mine["graph"] == "equal degrees"][["C", "L"]].mean()
        axes[3].plot(*rewirings, "x", color=colour)
    axes[3].set(xlabel="C", ylabel="L", title="training; cross: end, rewired")
    axes[3].legend(fontsize=7)
    for ending in ("png", "svg"):
        save_figure(figure, out / f"fig7.{ending}")


if __name__ == "__main__":
    run_script(main)
