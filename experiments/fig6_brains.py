"""Biological networks beside the best artificial ones, after the paper's Figure 6.

    python experiments/fig6_brains.py --published shared/published     # seconds, no training
    python experiments/fig6_brains.py --small    # best of 52 graphs on mnist1d: 18 min of one core
    python experiments/fig6_brains.py --full     # best of the paper's 3,942 graphs on CIFAR-10

Draws the adjacency of each connectome beside that of the best graph of each published result, with
C and L. Writes PNG and SVG, and ``fig6.csv``.

Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, Figure 6.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from paper_study import add_sources, connectome_folder, paths_of

from mpnn_arch.analysis import per_graph, read_many
from mpnn_arch.cli.failures import run_script
from mpnn_arch.graphs import CONNECTOMES, connectome, connectome_measures, parse_one
from mpnn_arch.io.figures import new_figure, save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_sources(parser)
    parser.add_argument(
        "--connectomes",
        type=Path,
        help="folder with connectomes/  [default: beside the published results, else as "
        "mpnn-arch graphs connectomes]",
    )
    parser.add_argument("--out", type=Path, default=Path("data/fig6"))
    args = parser.parse_args()
    measured = read_many(paths_of(args))  # first: connectomes may have to be fetched
    args.out.mkdir(parents=True, exist_ok=True)

    brains = connectome_folder(args)
    rows, drawn = [], []
    for row in connectome_measures(brains):
        name = row["connectome"]
        graph = connectome(name, brains)
        rows.append(
            {
                "network": name,
                "nodes": graph.num_nodes,
                "C": row["C_neighbourhood"],
                "L": row["L_directed"],
                "error": None,
            }
        )
        drawn.append((name.replace("_", " "), graph))
    for results in measured:
        best = per_graph(results.table).iloc[0]
        rows.append(
            {
                "network": f"best of {results.name}",
                "nodes": best["num_nodes"],
                "C": best["clustering_coefficient"],
                "L": best["average_path_length"],
                "error": best["mean"],
            }
        )
        drawn.append((f"best of {results.name}", parse_one(best["graph"])))

    figure = new_figure(3 * len(drawn), 3.4)
    axes = figure.subplots(1, len(drawn))
    for ax, (title, graph), row in zip(axes, drawn, rows, strict=True):
        graph.draw("matrix", ax=ax)
        ax.set_title(f"{title}\nC {row['C']:.2f}, L {row['L']:.2f}", fontsize=8)
    for ending in ("png", "svg"):
        save_figure(figure, args.out / f"fig6.{ending}")
    table = pd.DataFrame(rows)
    table.to_csv(args.out / "fig6.csv", index=False)
    print(table.round(3).to_string(index=False))
    print(f"{len(CONNECTOMES)} connectomes -> {args.out}")


if __name__ == "__main__":
    run_script(main)
