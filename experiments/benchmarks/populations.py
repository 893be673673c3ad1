"""Training steps of populations against the same networks trained alone, on the paper's graphs.

The 52 graphs in groups of eight of like density, so of like width; signals of 40 numbers, as
MNIST-1D's. A line a group: the time of a step of one member alone, and how many times faster it is
in a population of two, four and eight.

    python experiments/benchmarks/populations.py --quick --threads 1
    python experiments/benchmarks/populations.py --threads 1 --hidden 128 --out runs/bench
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from goals import arguments, published_graphs, write_csv

from mpnn_arch import models
from mpnn_arch.diagnostics.timing import machine
from mpnn_arch.training import ImageDataset, TrainingConfig
from mpnn_arch.training.population_size import time_sizes

GROUP = 8
SIZES = (1, 2, 4, 8)


def signals(features: int) -> ImageDataset:
    generator = torch.Generator().manual_seed(0)
    return ImageDataset(
        name="random signals",
        train_images=torch.randn(256, 1, 1, features, generator=generator),
        train_labels=torch.arange(256) % 10,
        test_images=torch.randn(128, 1, 1, features, generator=generator),
        test_labels=torch.arange(128) % 10,
        num_classes=10,
    )


def own_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--hidden", type=int, default=512, help="width of the dense network")
    parser.add_argument("--features", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    own, sys.argv[1:] = parser.parse_known_args()
    return own


def main() -> None:
    own = own_options()
    options = arguments(__doc__)
    graphs = published_graphs(argparse.Namespace(quick=False, graphs=options.graphs))
    groups = [graphs[start : start + GROUP] for start in range(0, len(graphs), GROUP)]
    if len(groups[-1]) < GROUP:
        groups[-1] = graphs[-GROUP:]
    if options.quick:
        groups = [groups[0], groups[len(groups) // 2], groups[-1]]
    data = signals(own.features)
    config = TrainingConfig(batch_size=own.batch, optimizer="fused")
    lines: list[dict[str, object]] = []
    for group in groups:
        members = [
            models.mlp(
                graph, in_features=own.features, hidden_features=own.hidden, device=options.device
            )
            for graph in group
        ]
        widths = [member.widths[0] for member in members]
        taken = time_sizes(
            members,
            data,
            config,
            SIZES,
            device=options.device,
            turns=options.repeats,
            seconds=60,
            clock=options.clock,
        )
        ratios = {size: taken[1] / seconds for size, seconds in taken.items()}
        print(
            f"widths {min(widths)} to {max(widths)}: {1e3 * taken[1]:.2f} ms alone; "
            + ", ".join(f"{size} together {ratios[size]:.2f} x" for size in SIZES[1:]),
            flush=True,
        )
        lines.append(
            {
                "hidden": own.hidden,
                "features": own.features,
                "batch": own.batch,
                "narrowest": min(widths),
                "widest": max(widths),
                "alone_ms": round(1e3 * taken[1], 3),
                **{f"ratio_{size}": round(ratios[size], 3) for size in SIZES[1:]},
            }
        )
    for size in SIZES[1:]:
        column = [float(str(line[f"ratio_{size}"])) for line in lines]
        print(
            f"{size} together: median {statistics.median(column):.2f} x, "
            f"worst {min(column):.2f} x, best {max(column):.2f} x of the speed alone"
        )
    for name, value in machine(options.device).items():
        print(f"{name}: {value}")
    write_csv(lines, options, f"populations_{options.device}_{own.hidden}.csv")


if __name__ == "__main__":
    main()
