"""Generate the shipped samples: WS-flex graphs that cover the plane of C and L.

    python experiments/make_samples.py small      # every tenth degree and p, 2 seeds: a minute
    python experiments/make_samples.py full       # the paper's whole grid, 30 seeds

``full`` sweeps every point of ``paper_grid``: 300 degrees x 300 p x 30 seeds = 2.7 million graphs
of 64 nodes (15 minutes on one core) and 200 x 300 x 30 = 1.8 million of 16 nodes (70 seconds),
under 200 MB per process; an interrupted sweep is resumed. The sample has one graph per occupied
bin, the one nearest the bin's centre; if more bins are occupied than the published list has graphs,
those with the fewest graphs in the sweep are left out. The smaller lists are nested in it: the
graph nearest the centre of each coarser bin, the nearest first, up to the published number.

The share of the published bins that the sweep and the sample occupy is printed if the published
lists are available (``--published`` or $MPNN_ARCH_DATA).
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import pandas as pd

from mpnn_arch import InputError
from mpnn_arch.cli.failures import run_script
from mpnn_arch.graphs import GraphBatch, published
from mpnn_arch.graphs.bins import PAPER_BINS, Bins, coverage, subsample
from mpnn_arch.graphs.design_space import C_AND_L, paper_grid, sweep_design_space
from mpnn_arch.graphs.measures import MEASURES


def one_per_bin(sweep: Path, bins: Bins, count: int) -> tuple[pd.DataFrame, int]:
    """The finest list, read part by part, and the number of graphs in the sweep."""
    picked, graphs_in, num_graphs = pd.DataFrame(), Counter[int](), 0
    for part in sorted(sweep.glob("part-*.parquet")):
        table = pd.read_parquet(part)
        num_graphs += len(table)
        number, inside = bins.place(table)
        graphs_in.update(number[inside].tolist())
        picked = subsample(pd.concat([picked, table]), bins)
    number, _ = bins.place(picked)
    order = sorted(range(len(picked)), key=lambda i: (-graphs_in[int(number[i])], i))
    return picked.iloc[sorted(order[:count])].reset_index(drop=True), num_graphs


def nested(sample: pd.DataFrame, num_nodes: int) -> list[int]:
    """For every row of the finest list, the size of the smallest list that contains it."""
    smallest = [len(sample)] * len(sample)
    kept: list[int] = []
    for count, bins in sorted(PAPER_BINS[num_nodes].items())[:-1]:
        numbered = subsample(sample.assign(row=range(len(sample))), bins)
        near = numbered.assign(off=bins.off_centre(numbered)).sort_values("off", kind="stable")
        kept += [row for row in near["row"].tolist() if row not in set(kept)][: count - len(kept)]
        for row in kept:
            smallest[row] = min(smallest[row], count)
    return smallest


def published_table(num_nodes: int, count: int, root: str | None) -> pd.DataFrame | None:
    """C and L of a published list; None if it is not available."""
    try:
        batch = GraphBatch.of(published(num_nodes, count, root, download=False))
    except InputError as error:
        print(f"  no coverage: {error}")
        return None
    return pd.DataFrame({name: MEASURES.get(name)(batch) for name in C_AND_L})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("setting", choices=["small", "full"])
    parser.add_argument("--num-nodes", type=int, choices=[16, 64], nargs="+", default=[16, 64])
    parser.add_argument("--sweeps", type=Path, default=Path("data/sweeps"), help="Parquet files")
    parser.add_argument("--out", type=Path, default=Path("data/samples"), help="the CSV files")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--published", default=None, help="folder of the published lists")
    args = parser.parse_args()

    for num_nodes in args.num_nodes:
        grid, repeats = paper_grid(num_nodes), 30
        if args.setting == "small":
            grid, repeats = {name: values[::10] for name, values in grid.items()}, 2
        folder = args.sweeps / f"{args.setting}_n{num_nodes}"
        sweep_design_space(
            "ws_flex",
            num_nodes,
            grid,
            repeats,
            args.workers,
            out=folder,
            progress=lambda done, parts: print(f"\r  part {done} of {parts}", end="", flush=True),
        )
        print()
        count, bins = max(PAPER_BINS[num_nodes].items())
        sample, num_graphs = one_per_bin(folder, bins, count)
        smallest = nested(sample, num_nodes)
        print(f"{num_nodes} nodes: {num_graphs:,} graphs, {len(sample)} bins in the sample")
        for size, coarse in PAPER_BINS[num_nodes].items():
            theirs = published_table(num_nodes, size, args.published)
            if theirs is not None:
                ours = sample[[least <= size for least in smallest]]
                print(
                    f"  of the bins of the published {size}, all our {len(sample)} fill "
                    f"{coverage(sample, theirs, coarse):.2%}, our list of {len(ours)} "
                    f"{coverage(ours, theirs, coarse):.2%}"
                )
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"ws_flex_n{num_nodes}.csv"
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            names = ["average_degree", "rewiring_probability", "seed"]
            writer.writerow([*names, "smallest_list"])
            columns = [sample[name].tolist() for name in names]
            writer.writerows(zip(*columns, smallest, strict=True))
        temporary.replace(path)
        print(f"  wrote {path}")


if __name__ == "__main__":
    run_script(main)
