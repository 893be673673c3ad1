"""``mpnn-arch gnn``: the same rounds as a graph neural network, on the Karate Club."""

from __future__ import annotations

import click

from mpnn_arch.checks import counted
from mpnn_arch.cli import completion
from mpnn_arch.cli.numbers import check_count, read_names
from mpnn_arch.cli.options import read_seeds, seeds_option


@click.command(short_help="Classify the Karate Club by rounds on its own graph.")
@click.option(
    "--model",
    default="gcn",
    show_default=True,
    shell_complete=completion.gnn_layers,
    help="gcn, sage, sage_max, gin, graph or gat; or several, separated by commas.",
)
@seeds_option("3")
@click.option("--hidden", type=int, default=16, show_default=True, help="Hidden channels per node.")
@click.option("--epochs", type=int, default=100, show_default=True, help="Training steps.")
def gnn(*, model: str, seeds: str | None, hidden: int, epochs: int) -> None:
    """Classify the members of Zachary's Karate Club with rounds on its own graph.

    One member of each of the 4 communities is labelled; the accuracy is that on the other 30.
    """
    chosen = read_seeds("3" if seeds is None else seeds)
    check_count("hidden", hidden, 100_000)
    check_count("epochs", epochs, 10_000_000)
    import statistics

    import torch
    from rich.table import Table

    from mpnn_arch.cli.output import new_console, print_table
    from mpnn_arch.rounds.gnn import gnn_layers
    from mpnn_arch.training.nodes import train_on_karate_club

    torch.set_num_threads(1)  # 34 nodes are too few to parallelise
    names = read_names("model", model)
    for name in names:
        gnn_layers.get(name)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("model")
    for title in ("parameters", "accuracy (%)", "worst", "best"):
        table.add_column(title, justify="right")
    for name in names:
        runs = [
            train_on_karate_club(name, seed=seed, hidden_features=hidden, epochs=epochs)
            for seed in chosen
        ]
        accuracies = [run.accuracy for run in runs]
        spread = f" ± {statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
        table.add_row(
            name,
            f"{runs[0].parameters:,}",
            f"{statistics.mean(accuracies):.1f}{spread}",
            f"{min(accuracies):.1f}",
            f"{max(accuracies):.1f}",
        )
    console = new_console()
    shown = "mean ± sample deviation of " if len(chosen) > 1 else ""
    console.print(
        f"Karate Club, 34 members, 4 labelled, {shown}{counted(len(chosen), 'seed')}",
        highlight=False,
    )
    print_table(console, table)
