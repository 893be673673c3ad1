"""``mpnn-arch compare``: message functions and aggregations, trained and compared."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mpnn_arch.cli.numbers import MOST_SEEDS, check_count, read_names


@click.command()
@click.option("--model", default="mlp", show_default=True, help="See `mpnn-arch models`.")
@click.option(
    "--dataset",
    default="mnist5k",
    show_default=True,
    help="mnist5k, mnist1d, digits, cifar10, imagenet, a folder of images, or module:function; see "
    "train.",
)
@click.option("--graph", help="A graph, such as ws_flex:64,12,0.15,0.  [default: by model]")
@click.option(
    "--aggr", "aggrs", default="sum,mean,max,softmax", show_default=True, help="Aggregations."
)
@click.option(
    "--message", "messages", default="linear,gated,low_rank", show_default=True, help="Messages."
)
@click.option("--seeds", type=int, default=3, show_default=True, help="Number of seeds.")
@click.option("--epochs", type=int, help="Passes over the training images.  [default: by model]")
@click.option("--train-images", type=int, help="Number of training images.  [default: all]")
@click.option("--test-images", type=int, help="Number of test images.  [default: all]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the table and the plot.  [default: runs/compare-MODEL-DATASET-TIME]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
def compare(
    *,
    model: str,
    dataset: str,
    graph: str | None,
    aggrs: str,
    messages: str,
    seeds: int,
    epochs: int | None,
    train_images: int | None,
    test_images: int | None,
    out: Path | None,
    device: str,
) -> None:
    """Train a model with every given message and aggregation, at equal multiply-adds.

    Names are separated by commas; aggregations joined by + are used together. The table shows the
    test error, parameters, multiply-adds, and the time of a training step relative to the fused
    linear-sum round.
    """
    check_count("seeds", seeds, MOST_SEEDS)
    import csv
    import dataclasses

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    from rich.table import Table

    from mpnn_arch.io.files import check_folder, make_folder, write_whole
    from mpnn_arch.training.comparison import compare_swaps, plot_swaps
    from mpnn_arch.training.data import load_dataset, short_name
    from mpnn_arch.training.devices import find_device
    from mpnn_arch.training.experiment import parse_graphs
    from mpnn_arch.training.recipes import default_graphs, recipe, recipe_note

    found = recipe(model, dataset)
    training = found.training
    if epochs is not None:
        training = dataclasses.replace(training, epochs=epochs)
    specification = graph or default_graphs(model, found)[0]
    (relational,) = parse_graphs([specification])
    names = {"message": read_names("message", messages), "aggr": read_names("aggr", aggrs)}
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = out or Path("runs") / f"compare-{model}-{short_name(dataset)}-{stamp}"
    data = load_dataset(dataset).subset(train_images, test_images)
    check_folder(folder)  # before the work, which takes minutes

    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 110
    bar = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        "epochs",
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    total = len(names["message"]) * len(names["aggr"]) * seeds * training.epochs
    with bar:
        task = bar.add_task("", total=total)
        results = compare_swaps(
            model,
            relational,
            data,
            messages=names["message"],
            aggrs=names["aggr"],
            seeds=range(seeds),
            training=training,
            device=find_device(device),
            watch=lambda what: bar.update(task, advance=1, description=what),
        )

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("message", "aggr"):
        table.add_column(title, no_wrap=True)
    for title in ("width", "parameters", "multiply-adds", "test error (%)", "time per step"):
        table.add_column(title, justify="right")
    for r in results:
        spread = "" if r.deviation is None else f" ± {r.deviation:.2f}"
        table.add_row(
            r.message,
            r.aggr,
            " ".join(map(str, r.widths)),
            f"{r.parameters:,}",
            f"{r.multiply_adds:,}",
            f"{r.mean:.2f}{spread}",
            f"{r.step_ratio:.2f} x",
        )
    title = f"{model} on {data.name}, {specification}, equal multiply-adds"
    console.print(
        f"{title}, {seeds} seeds, {training.epochs} epochs", highlight=False, markup=False
    )
    note = recipe_note(model, training, dataset)
    if note:
        console.print(note, highlight=False, soft_wrap=True)
    console.print(table)
    console.print("time per step: relative to the fused linear-sum round", highlight=False)

    def write_table(path: Path) -> None:
        rows = [r.to_dict() for r in results]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    make_folder(folder)
    write_whole(folder / "compare.csv", write_table)
    plot_swaps(folder / "compare.png", title, results)
    console.print(f"table and plot: {folder}", highlight=False, markup=False, soft_wrap=True)
