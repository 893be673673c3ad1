"""Cat and macaque cortex beside the best artificial graphs, after the paper's Table 2.

    python experiments/table2_connectomes.py --published shared/published     # no training
    python experiments/table2_connectomes.py --results my_study/export.csv --connectomes folder

For each network C, L and the density; the mean and deviation of C and L over graphs of equal
degrees; and for every results file the mean error of the bin of the landscape that the network lies
in, and whether that is the sweet spot. Writes ``table2.csv``, and the networks in the plane of C
and L with their nulls as PNG and SVG. ``--small`` draws 5 nulls, the full setting 100.

Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, Table 2.
"""

from __future__ import annotations

import argparse
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pandas as pd
from paper_study import connectome_folder

from mpnn_arch.analysis import connectomes, read_many, sweet_spot
from mpnn_arch.analysis.tidy_results import Results
from mpnn_arch.cli.failures import run_script
from mpnn_arch.io.figures import COLOURS, new_figure, plain, save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--published", type=Path, help="folder of the published results")
    source.add_argument("--results", type=Path, nargs="+", help="results of your own")
    parser.add_argument(
        "--connectomes",
        type=Path,
        help="folder with connectomes/  [default: beside the published results, else as "
        "mpnn-arch graphs connectomes]",
    )
    parser.add_argument("--small", action="store_true", help="5 nulls a network instead of 100")
    parser.add_argument("--out", type=Path, default=Path("data/table2"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    results = read_many([args.published] if args.published else args.results)
    table = connectomes(connectome_folder(args), results, nulls=5 if args.small else 100)
    table.to_csv(args.out / "table2.csv", index=False)
    draw(table, results, args.out)
    print(table.set_index("network").round(3).T.to_string())
    print(f"-> {args.out}")


def draw(table: pd.DataFrame, results: list[Results], out: Path) -> None:
    """Every network as a numbered dot, an arrow from the mean of its nulls, and the sweet spots."""
    figure = new_figure(6, 5)
    ax = figure.subplots()
    outlines = product((":", "--", "-."), COLOURS[3:])  # of the six networks of the paper and more
    for (line, colour), one in zip(cycle(outlines), results, strict=False):
        spot = sweet_spot(one.table)
        (left, right), (low, high) = spot.clustering_coefficient, spot.average_path_length
        corners = [left, right, right, left, left], [low, low, high, high, low]
        ax.plot(*corners, line, color=colour, label=plain(f"sweet spot, {one.name}"))
    for number, row in enumerate(table.to_dict("records"), 1):
        colour = COLOURS[0] if pd.isna(row["error"]) else COLOURS[1]
        ax.annotate(
            "",
            (row["C"], row["L"]),
            (row["null_C"], row["null_L"]),
            arrowprops={"arrowstyle": "->", "color": "0.6", "shrinkB": 6},
        )
        # The best graphs lie near each other, so that their names stand in the legend.
        name = plain(f"{number}: {row['network'].replace('_', ' ')}")
        ax.plot(row["C"], row["L"], "o", markersize=10, color=colour, label=name)
        inside: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": "white"}
        ax.annotate(str(number), (row["C"], row["L"]), fontsize=7, zorder=3, **inside)
    ax.set(
        xlabel="clustering coefficient C",
        ylabel="average path length L",
        title="arrows: from graphs of equal degrees",
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    for ending in ("png", "svg"):
        save_figure(figure, out / f"table2.{ending}")


if __name__ == "__main__":
    run_script(main)
