"""The round explaining the round: error predicted from the relational graph itself.

    python experiments/explain_by_network.py --published shared/published     # minutes, one core
    python experiments/explain_by_network.py --results my_study/export.csv --epochs 60

A graph neural network of the library's own rounds with shared messages (the paper's Equation 6) is
trained on three quarters of the graphs and compared on the others with density, and with C and L.
Writes ``explain_by_network.csv``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pandas as pd

from mpnn_arch.analysis import per_graph, read_many
from mpnn_arch.analysis.graph_predictor import predict_from_graphs
from mpnn_arch.analysis.per_graph import without_baseline
from mpnn_arch.cli.failures import run_script


def main() -> None:
    warnings.filterwarnings("ignore", message=r"`torch\.jit")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--published", type=Path, help="folder of the published results")
    source.add_argument("--results", type=Path, nargs="+", help="results of your own")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("data/explain_by_network"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    tables = []
    for results in read_many([args.published] if args.published else args.results):
        graphs = len(per_graph(without_baseline(results.table)))
        if graphs < 200:
            print(f"{results.name}: {graphs} graphs are too few to train a network on; left out")
            continue
        table = predict_from_graphs(results.table, epochs=args.epochs, seed=args.seed)
        print(f"{results.name}\n{table.round(3).to_string(index=False)}")
        tables.append(table.assign(results=results.name))
    if tables:
        pd.concat(tables).to_csv(args.out / "explain_by_network.csv", index=False)
        print(f"-> {args.out / 'explain_by_network.csv'}")


if __name__ == "__main__":
    run_script(main)
