"""``mpnn-arch models``: the list of models, and the cost of one on a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mpnn_arch.cli import completion
from mpnn_arch.cli.options import graphs_option
from mpnn_arch.cli.output import check_picture
from mpnn_arch.errors import InputError


@click.command(short_help="List the models, or show one and its cost.")
@click.argument("name", required=False, shell_complete=completion.models)
@graphs_option("the model's; one for all rounds, or one for each stage or round")
@click.option("--dense", is_flag=True, help="Show the dense model only.")
@click.option("--image-size", type=int, help="Image height and width.  [default: the model's]")
@click.option("--in-channels", type=int, help="Channels of an image.  [default: 3]")
@click.option("--num-classes", type=int, help="Outputs.  [default: the model's]")
@click.option("--width-multiplier", type=float, help="Scales every width.  [default: 1]")
@click.option("--layers", is_flag=True, help="One row per layer instead of per stage.")
@click.option("--diagram", type=click.Path(path_type=Path), help="Draw the model to this file.")
def models(
    name: str | None,
    graphs: tuple[str, ...],
    dense: bool,
    image_size: int | None,
    in_channels: int | None,
    num_classes: int | None,
    width_multiplier: float | None,
    layers: bool,
    diagram: Path | None,
) -> None:
    """List the models, or show the stages of the one called NAME and their cost.

    Its widths are matched to the cost of the dense model; the columns on the right show the same
    model on the complete graph.
    """
    settings: dict[str, Any] = {
        key: value
        for key, value in (
            ("image_size", image_size),
            ("in_channels", in_channels),
            ("num_classes", num_classes),
            ("width_multiplier", width_multiplier),
        )
        if value is not None
    }
    if diagram is not None:
        check_picture(diagram)
    if name is None:
        if graphs or dense or layers or diagram or settings:
            raise InputError("name a model to show it; mpnn-arch models alone lists them")
        _list()
    elif dense and graphs:
        raise InputError("--dense has no graph; leave out one of --dense and --graphs")
    else:
        _show(name, graphs, dense, settings, layers, diagram)


def _list() -> None:
    from rich.table import Table

    from mpnn_arch.cli.model_list import ROWS
    from mpnn_arch.cli.output import new_console, print_table

    table = Table("model", "description", "default graph")
    for column in ("input", "dense multiply-adds"):
        table.add_column(column, justify="right")
    for name, summary, graph, shape, cost in ROWS:
        table.add_row(name, summary, graph, shape, f"{cost:,}")
    print_table(new_console(), table)


def _show(
    name: str,
    specs: tuple[str, ...],
    dense: bool,
    settings: dict[str, Any],
    layers: bool,
    path: Path | None,
) -> None:
    from rich.table import Table

    from mpnn_arch import graphs, models
    from mpnn_arch.cli.output import new_console, print_table
    from mpnn_arch.io.files import write_whole

    kind = models.MODELS.get(name)
    chosen = () if dense else specs or (kind.default_graph,)
    on_graphs = [graph for spec in chosen for graph in graphs.parse(spec)]
    model: Any = models.build(name, on_graphs or None, device="meta", **settings)
    costs = models.complexity(model)
    console = new_console()
    title = f"{name} on {', '.join(chosen)}" if chosen else f"{name}, dense"
    console.print(title, highlight=False)
    if layers:
        # Not wrapped to the terminal, for a pipe or a pager.
        click.echo(str(costs))
    else:
        complete = _on_complete_graphs(model, name, settings) if on_graphs else None
        table = Table("stage", "width")
        for column in ("parameters", "multiply-adds", "relational"):
            table.add_column(column, justify="right")
        if on_graphs:
            table.add_column("complete: width")
            table.add_column("parameters", justify="right")
            table.add_column("multiply-adds", justify="right")
        for row in _rows(costs, complete):
            table.add_row(*row)
        print_table(console, table)
        dense_cost = model.model_config.multiply_adds()
        console.print(
            f"{costs.multiply_adds:,} multiply-adds, "
            f"{100 * (costs.multiply_adds / dense_cost - 1):+.3f} % of the dense model's "
            f"{dense_cost:,}",
            highlight=False,
        )
    if path is not None:
        figure = models.diagram(model)
        suffix = path.suffix.lstrip(".") or "png"
        try:
            write_whole(path, lambda temporary: figure.savefig(temporary, format=suffix))
        except InputError:
            raise
        except ValueError as error:  # an unknown format
            raise InputError(f"cannot write {path}: {error}") from None
        console.print(f"wrote {path}", highlight=False)


def _on_complete_graphs(model: Any, name: str, settings: dict[str, Any]) -> Any:
    """Costs at the dense widths on complete graphs with the same numbers of nodes."""
    from mpnn_arch import graphs, models

    complete: Any = [graphs.generate("complete", num_nodes=g.num_nodes) for g in model.graphs]
    dense_widths = model.model_config.stage_widths
    try:
        model.model_config.multiply_adds(dense_widths, complete)
    except InputError:
        complete = None  # too narrow for that many nodes: compare with the dense model
    return models.complexity(
        models.build(name, complete, widths=dense_widths, device="meta", **settings)
    )


def _rows(costs: Any, complete: Any) -> list[list[str]]:
    """One row per stage, then the totals."""
    complete_stages = complete.by_stage() if complete is not None else {}
    rows = []
    for stage, part in costs.by_stage().items():
        row = [stage, _width(part), *_costs(part), f"{100 * part.relational_share:.1f} %"]
        if complete is not None:
            row += [_width(complete_stages[stage]), *_costs(complete_stages[stage])]
        rows.append(row)
    row = ["total", "", *_costs(costs), f"{100 * costs.relational_share:.1f} %"]
    rows.append(row + (["", *_costs(complete)] if complete is not None else []))
    return rows


def _width(part: Any) -> str:
    """Output channels of the stage's last layer that multiplies."""
    widths = [layer.out_channels for layer in part.layers if layer.out_channels]
    return str(widths[-1]) if widths else ""


def _costs(part: Any) -> tuple[str, str]:
    return f"{part.parameters:,}", f"{part.multiply_adds:,}"
