"""All families of graphs in the plane of C and L, after the paper's Figure 3.

    python experiments/fig3_generators.py small     # takes a minute
    python experiments/fig3_generators.py full

WS-flex is swept over the paper's grid (a subset of it in ``small``), every other family over its
own parameters, at the same number of nodes. Writes a PNG and the points as CSV.

Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, Figure 3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mpnn_arch import InputError, RelationalGraph
from mpnn_arch.cli.failures import run_script
from mpnn_arch.graphs import GraphBatch, generate, measure, ws_flex_population
from mpnn_arch.graphs.design_space import C_AND_L, paper_grid
from mpnn_arch.graphs.generators import is_seeded
from mpnn_arch.graphs.measures import MEASURES

LONGEST = 4.6  # the end of the axis of L, as in the paper's figure


def grids(num_nodes: int, points: int) -> dict[str, list[dict[str, float]]]:
    """The parameters with which each family is generated."""
    n, most = num_nodes, num_nodes * (num_nodes - 1) // 2
    edges = np.unique(np.linspace(4 * n, most, points).round().astype(int)).tolist()
    even = list(range(4, n - 1, max(2, 2 * (n // (2 * points)))))
    return {
        "er": [{"num_edges": e} for e in edges],
        "ws": [
            {"degree": k, "rewiring_probability": float(p)}
            for k in even
            for p in np.linspace(0, 1, points) ** 2
        ],
        "ba": [{"edges_per_node": m} for m in range(2, n // 2 + 1, max(1, n // (2 * points)))],
        "harary": [{"num_edges": e} for e in edges],
        "ring": [{"degree": k} for k in even],
        "regular": [{"degree": k} for k in even],
        "modular": [
            {"num_modules": 4, "within_probability": float(w), "between_probability": 0.05}
            for w in np.linspace(0.2, 1, points)
        ],
        "core_periphery": [
            {"core_size": int(size)} for size in np.linspace(n // 8, n // 2, points)
        ],
        "lfr": [{"average_degree": float(d)} for d in np.linspace(6, n / 4, points)],
        "complete": [{}],
        "star": [{}],
        "hypercube": [{}],
        "grid": [{}, {"periodic": 1}],
        "tree": [{"branching": b} for b in (2, 3, 4)],
    }


def clouds(num_nodes: int, points: int, repeats: int) -> pd.DataFrame:
    """C and L of every graph of every family."""
    tables = []
    for name, calls in grids(num_nodes, points).items():
        generated: list[RelationalGraph] = []
        for call in calls:
            for seed in range(repeats if is_seeded(name) else 1):
                seeded = {**call, "seed": seed} if is_seeded(name) else call
                try:
                    generated.append(generate(name, num_nodes=num_nodes, **seeded))
                except InputError:  # no connected graph at some points of a family's grid
                    continue
        if generated:
            tables.append(measure(generated).assign(family=name))
    return pd.concat(tables, ignore_index=True)


def ws_flex_cloud(num_nodes: int, thin: int, repeats: int) -> pd.DataFrame:
    """C and L of WS-flex over the paper's grid, every ``thin``-th value of either parameter."""
    grid = paper_grid(num_nodes)
    degree, p = np.meshgrid(*(np.asarray(values)[::thin] for values in grid.values()))
    tables = []
    for seed in range(repeats):
        batch = GraphBatch(ws_flex_population(num_nodes, degree.ravel(), p.ravel(), seed))
        tables.append(pd.DataFrame({name: MEASURES.get(name)(batch) for name in C_AND_L}))
    return pd.concat(tables, ignore_index=True).assign(family="ws_flex")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("setting", choices=["small", "full"])
    parser.add_argument("--num-nodes", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("data/fig3"))
    args = parser.parse_args()
    thin, points, repeats = (6, 10, 2) if args.setting == "small" else (1, 30, 10)

    table = pd.concat(
        [
            ws_flex_cloud(args.num_nodes, thin, repeats),
            clouds(args.num_nodes, points, repeats),
        ],
        ignore_index=True,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.out / "generators.csv", index=False)

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for i, (family, cloud) in enumerate(table.groupby("family", sort=False)):
        ws_flex = family == "ws_flex"
        axes.scatter(
            cloud["clustering_coefficient"],
            cloud["average_path_length"],
            s=2 if ws_flex else 14,
            color="#cbd5e0" if ws_flex else f"C{(i - 1) % 10}",
            marker="." if ws_flex else "osD^vP*X"[i % 8],
            label=family,
            zorder=1 if ws_flex else 2,
            rasterized=ws_flex,
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0.9, LONGEST)
    axes.set_xlabel("clustering coefficient C")
    axes.set_ylabel("average path length L")
    beyond = table[table["average_path_length"] > LONGEST]
    title = f"{len(table):,} graphs of {args.num_nodes} nodes"
    if len(beyond):
        families = ", ".join(sorted(beyond["family"].unique()))
        title += f"; {len(beyond):,} above L = {LONGEST} are not shown ({families})"
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside right upper", markerscale=1.5, fontsize=8)
    figure.savefig(args.out / "generators.png", dpi=150)
    shown = table.groupby("family")[list(C_AND_L)].agg(["min", "max"]).round(3)
    print(shown.to_string())
    print(f"{len(table):,} graphs -> {args.out / 'generators.png'}")


if __name__ == "__main__":
    run_script(main)
