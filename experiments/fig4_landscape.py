"""The landscape of error over C and L, its slices and sweet spots, after the paper's Figure 4.

    python experiments/fig4_landscape.py --published shared/published     # seconds, no training
    python experiments/fig4_landscape.py --small     # 52 graphs on mnist1d: 18 min of one core
    python experiments/fig4_landscape.py --full      # the paper's 3,942 graphs on CIFAR-10
    python experiments/fig4_landscape.py --results my_study

For every results file: mean error over the coarse and the fine bins with the sweet spots outlined,
error along L (C in 0.4-0.6) and along C (L in 2-2.5) with a second-degree regression; for every
pair of results, one against the other bin by bin. Writes PNG, SVG and ``fig4.csv``.

Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, Figure 4.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from paper_study import add_sources, paths_of

from mpnn_arch.analysis import (
    consistency,
    per_graph,
    read_many,
    simultaneous_sweet_spot,
    slice_of,
    sweet_spot,
)
from mpnn_arch.analysis.landscape import landscape
from mpnn_arch.analysis.per_graph import baseline
from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.charts import agreement_charts, landscape_chart, slice_charts
from mpnn_arch.analysis.report.draw_matplotlib import save_chart
from mpnn_arch.analysis.slices import PAPER_SLICES
from mpnn_arch.cli.failures import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_sources(parser)
    parser.add_argument("--out", type=Path, default=Path("data/fig4"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    found, rows = [], []
    for results in read_many(paths_of(args)):
        table = results.table
        one = Analysis(results.name, table, [], per_graph(table), baseline(table))
        one.coarse, one.fine = landscape(table), landscape(table, "fine")
        one.spot, one.simultaneous = sweet_spot(table), simultaneous_sweet_spot(table)
        one.slices = {along: slice_of(table, along) for along in PAPER_SLICES}
        charts = [landscape_chart(one, which) for which in ("coarse", "fine")]
        for chart in [*charts, *slice_charts(one)]:
            if chart is not None:
                save_chart(chart, args.out)
        best, dense = one.graphs.iloc[0], one.baseline
        rows.append(
            {
                "results": one.name,
                "baseline": None if dense is None else f"{dense['mean']:.2f} ± {dense['std']:.2f}",
                "best": f"{best['mean']:.2f} ± {best['std']:.2f}",
                "C": "{:.3f}-{:.3f}".format(*one.spot.clustering_coefficient),
                "L": "{:.3f}-{:.3f}".format(*one.spot.average_path_length),
                "kept": f"{len(one.spot.kept)} of {len(one.spot.candidates)} {one.spot.unit}s",
                "may be best": len(one.simultaneous.spot.kept),
                **{f"R2 along {along}": round(s.r2, 2) for along, s in one.slices.items()},
            }
        )
        found.append(one)
    pairs, notes = consistency({one.name: one.table for one in found})
    for chart in agreement_charts(found, pairs):
        save_chart(chart, args.out)
    table = pd.DataFrame(rows)
    table.to_csv(args.out / "fig4.csv", index=False)
    print(table.T.to_string(header=False))
    for row in pairs.to_dict("records"):
        print(
            f"{row['first']} and {row['second']}: Pearson {row['pearson']:.3f} "
            f"(p = {row['pearson_p']:.2g}) over {row['points']} bins, beyond density "
            f"{row['pearson_beyond_density']:.3f}"
        )
    print("\n".join([*notes, f"-> {args.out}"]))


if __name__ == "__main__":
    run_script(main)
