"""Few graphs and few epochs show the landscape, after the paper's Figure 5.

    python experiments/fig5_quick_identification.py --published shared/published     # seconds
    python experiments/fig5_quick_identification.py --small      # 52 graphs on mnist1d: few epochs
    python experiments/fig5_quick_identification.py --full       # 3,942 graphs on CIFAR-10
    python experiments/fig5_quick_identification.py --results my_study

Left: correlation of the bin means of k graphs with those of all, for the published lists of 52 and
449 graphs and for random graphs. Right: correlation of epoch t with the last, and what a race that
halves the graphs would have saved and lost. Writes PNG, SVG and CSV.

Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, Figure 5.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from paper_study import add_sources, paths_of

from mpnn_arch import InputError
from mpnn_arch.analysis import few_epochs, few_graphs, few_graphs_by_count, racing, read_many
from mpnn_arch.analysis.few_graphs import listed_subsets
from mpnn_arch.analysis.per_graph import baseline, per_graph
from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.charts import few_epochs_chart, few_graphs_chart
from mpnn_arch.analysis.report.draw_matplotlib import save_chart
from mpnn_arch.analysis.results_table import has_epochs
from mpnn_arch.cli.failures import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_sources(parser)
    parser.add_argument("--out", type=Path, default=Path("data/fig5"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    paths = paths_of(args)
    folder = paths[0] if paths[0].is_dir() else paths[0].parent

    for results in read_many(paths):
        table = results.table
        one = Analysis(results.name, table, [], per_graph(table), baseline(table))
        print(one.name)
        try:
            by_count = few_graphs_by_count(table)
        except InputError as error:
            print(f"  few graphs: {error}")
        else:
            one.few_graphs_by_count = by_count
            for count, names in listed_subsets(table, folder).items():
                one.few_graphs[count] = few_graphs(table, names)
                found = one.few_graphs[count]
                print(f"  {count} graphs of a list against all: Pearson {found.pearson:.3f}")
            by_count.to_csv(args.out / f"{one.name}_few_graphs.csv", index=False)
            print(by_count.round(3).to_string(index=False))
        if has_epochs(table):
            one.few_epochs = few_epochs(table)
            one.few_epochs.to_csv(args.out / f"{one.name}_few_epochs.csv", index=False)
            shown = one.few_epochs[one.few_epochs["epoch"].isin([1, 2, 3, 5, 10, 20, 50])]
            print(shown.round(3).to_string(index=False))
            race = racing(table)
            race.to_csv(args.out / f"{one.name}_racing.csv", index=False)
            print(race.round(3).to_string(index=False))
        for chart in (few_graphs_chart(one), few_epochs_chart(one)):
            if chart is not None:
                save_chart(chart, args.out)
    print(f"-> {args.out}")


if __name__ == "__main__":
    run_script(main)
