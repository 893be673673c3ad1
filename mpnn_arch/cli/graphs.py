"""``mpnn-arch graphs``: list, make, measure, draw and sample relational graphs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mpnn_arch.checks import check_whole, counted
from mpnn_arch.cli import completion
from mpnn_arch.cli.output import check_picture, new_console, print_table
from mpnn_arch.errors import InputError
from mpnn_arch.io.files import check_writable, shown_path, write_whole
from mpnn_arch.registry import first_line

_FORMATS = (".npy", ".csv", ".txt", ".edges", ".graphml", ".gexf")


@click.group()
def graphs() -> None:
    """List, make, measure, draw and sample relational graphs.

    A graph is named by a SPEC: ws_flex:64,8.5,0.1,0 (a generator and its parameters),
    published:64/3942/17, sample:64/52/0:6 (a slice), connectome:cat_cortex, file:brain.csv.
    """


@graphs.command("list", short_help="List families, measures and lists of graphs.")
def list_command() -> None:
    """List the generators with their parameters, the measures, and other sources of graphs."""
    from mpnn_arch.graphs import (
        CONNECTOMES,
        describe,
        list_generators,
        list_measures,
        lists,
    )
    from mpnn_arch.graphs.generators import GENERATORS
    from mpnn_arch.graphs.measures import MEASURES

    console = new_console()
    table = _table("generator", "parameters", "description")
    for name in list_generators():
        table.add_row(name, describe(name), first_line(GENERATORS.get(name)))
    print_table(console, table)
    table = _table("measure", "description")
    for name in list_measures():
        table.add_row(name, first_line(MEASURES.get(name)).removeprefix("(B,): "))
    print_table(console, table)
    table = _table("lists", "nodes/graphs")
    for source, counts in (("published", lists.PUBLISHED), ("sample", lists.SAMPLES)):
        specs = [f"{source}:{nodes}/{count}" for nodes, all_ in counts.items() for count in all_]
        table.add_row(source, "  ".join(specs))
    table.add_row("connectome", "  ".join(f"connectome:{name}" for name in CONNECTOMES))
    table.add_row("list", "list:PATH (.csv of graphs sample: a row of parameters a graph)")
    table.add_row("file", "file:PATH (.txt .csv .tsv .npy .edges .edgelist .graphml .gexf)")
    print_table(console, table)


@graphs.command(short_help="Make a graph and write it as a file.")
@click.argument("spec", shell_complete=completion.graphs)
@click.option("--out", type=click.Path(path_type=Path), help="Write the graph here.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def make(spec: str, out: Path | None, force: bool) -> None:
    """Make the graph that SPEC names, and write it as a file.

    .npy, .csv and .txt hold its adjacency matrix, .edges its edges, two nodes per line; .graphml
    and .gexf are those formats. Large graphs fit .edges best.
    """
    from mpnn_arch.graphs import parse_one

    if out is not None:
        _refuse_existing(out, force)
        if out.suffix not in _FORMATS:
            raise InputError(
                f"{out.name} has an unknown format; give a name such as graph.csv that ends in one "
                f"of {', '.join(_FORMATS)}"
            )
    graph = parse_one(spec)
    if out is None:
        click.echo(repr(graph))
        return
    _write(graph, out)
    click.echo(f"{graph!r} -> {out}")


@graphs.command(short_help="Measure graphs.")
@click.argument(
    "specs", nargs=-1, required=True, metavar="SPEC...", shell_complete=completion.graphs
)
@click.option(
    "--measure",
    "-m",
    "names",
    multiple=True,
    shell_complete=completion.measures,
    help="A measure; may be repeated.",
)
@click.option("--all", "all_", is_flag=True, help="Every measure.")
@click.option("--reachable-only", is_flag=True, help="Leave out pairs without a path.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table as CSV.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def measure(
    specs: tuple[str, ...],
    names: tuple[str, ...],
    all_: bool,
    reachable_only: bool,
    out: Path | None,
    force: bool,
) -> None:
    """Measure graphs: clustering coefficient and average path length, or the given measures."""
    from mpnn_arch import graphs as library

    _refuse_existing(out, force)
    chosen = list(names) or ["clustering_coefficient", "average_path_length"]
    if all_:
        chosen = library.list_measures()
    labels, parsed = _labelled(specs)
    found = library.measure(parsed, chosen, reachable_only=reachable_only)
    if out is not None:
        found.insert(0, "graph", labels)
        write_whole(out, lambda temporary: found.to_csv(temporary, index=False))
        click.echo(f"{counted(len(found), 'graph')} -> {out}")
        return
    table = _table("graph", "nodes", "edges", *chosen)
    for label, graph, row in zip(labels, parsed, found.itertuples(index=False), strict=True):
        values = [f"{value:.6g}" for value in row]
        table.add_row(label, str(graph.num_nodes), str(graph.num_edges), *values)
    print_table(new_console(), table)


@graphs.command(short_help="Draw graphs side by side.")
@click.argument("spec", shell_complete=completion.graphs)
@click.option(
    "--layout",
    type=click.Choice(["ring", "spring", "matrix", "degrees"]),
    default="ring",
    show_default=True,
    help="How nodes are placed, or what is drawn instead.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".png, .pdf or .svg")
@click.option("--seed", type=int, default=0, help="Seed of the spring layout.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def draw(spec: str, layout: Any, out: Path, seed: int, force: bool) -> None:
    """Draw the graphs that SPEC names, at most 64, side by side, titled by name, C and L.

    Of a graph of more than 2,000 nodes the distribution of the degrees is drawn instead.
    """
    from mpnn_arch.graphs import parse
    from mpnn_arch.graphs.drawing import LARGEST_DRAWN
    from mpnn_arch.io.figures import new_figure, save_figure

    _refuse_existing(out, force)
    check_picture(out)
    parsed = parse(spec)
    if len(parsed) > 64:
        raise InputError(f"{spec!r} names {len(parsed)} graphs, one picture holds 64; take a slice")
    columns = min(len(parsed), 6)
    rows = -(-len(parsed) // columns)
    figure = new_figure(3.2 * columns, 3.5 * rows)
    for i, (name, graph) in enumerate(zip(_names(spec, len(parsed)), parsed, strict=True)):
        axes = graph.draw(layout, ax=figure.add_subplot(rows, columns, i + 1), seed=seed)
        axes.set_title(_title(name, graph), fontsize=8)
    save_figure(figure, out)
    click.echo(f"{counted(len(parsed), 'graph')} -> {out}")
    if any(graph.num_nodes > LARGEST_DRAWN for graph in parsed):
        click.echo(
            f"of graphs of more than {LARGEST_DRAWN:,} nodes it shows the distribution of degrees"
        )


@graphs.command(short_help="Sweep a design space and pick graphs that cover it.")
@click.option("--num-nodes", type=int, default=64, show_default=True, help="Nodes of every graph.")
@click.option("--degrees", type=int, default=30, show_default=True, help="Number of degrees.")
@click.option(
    "--probabilities", type=int, default=30, show_default=True, help="Number of values of p."
)
@click.option("--repeats", type=int, default=2, show_default=True, help="Seeds per point.")
@click.option("--bins", type=int, default=45, show_default=True, help="Bins along each of C and L.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Output folder.")
def sample(
    num_nodes: int,
    degrees: int,
    probabilities: int,
    repeats: int,
    bins: int,
    workers: int,
    out: Path,
) -> None:
    """Sweep WS-flex over a subset of the paper's grid, and select one graph per bin of (C, L).

    The output folder gets the sweep as Parquet files and the selected graphs as sample.csv, which
    list:OUT/sample.csv names in every command. Their average_degree is that which was asked for,
    their density that of the graph's edges. An interrupted sweep is resumed.
    """
    import numpy as np
    import pandas as pd
    from rich.progress import Progress

    from mpnn_arch.graphs.bins import Bins, subsample
    from mpnn_arch.graphs.design_space import paper_grid, sweep_design_space

    check_whole("bins", bins, 1, 10_000)
    counts = (check_whole("degrees", degrees, 1), check_whole("probabilities", probabilities, 1))
    grid = {}
    for (name, values), count in zip(paper_grid(num_nodes).items(), counts, strict=True):
        places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
        grid[name] = [values[i] for i in places]
    errors = new_console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("sweep", total=None)
        sweep_design_space(
            "ws_flex",
            num_nodes,
            grid,
            repeats,
            workers,
            out=out,
            progress=lambda done, parts: bar.update(task, completed=done, total=parts),
        )
    table = pd.concat(pd.read_parquet(part) for part in sorted(out.glob("part-*.parquet")))
    # The bins extend to the largest average path length of this sweep.
    picked = subsample(table, Bins(bins, (1.0, float(table["average_path_length"].max()) + 1e-9)))
    write_whole(out / "sample.csv", lambda temporary: picked.to_csv(temporary, index=False))
    found = f"{counted(len(table), 'graph')}, {counted(len(picked), 'bin')} filled"
    click.echo(f"{found} -> {out / 'sample.csv'}")


@graphs.command(short_help="Show C and L of cat and macaque cortex.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the raw matrices.  [default: $MPNN_ARCH_DATA, else ~/.cache/mpnn_arch]",
)
def connectomes(root: Path | None) -> None:
    """Show C and L of the cat and macaque cortex under each definition."""
    from mpnn_arch.graphs import connectome_measures

    rows = connectome_measures(root)
    table = _table(*rows[0])
    for row in rows:
        table.add_row(*[v if isinstance(v, str) else f"{v:.3f}" for v in row.values()])
    print_table(new_console(), table)


def _table(*names: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for i, name in enumerate(names):
        table.add_column(name, overflow="fold", style="bold" if i == 0 else "")
    return table


def _labelled(specs: tuple[str, ...]) -> tuple[list[str], list[Any]]:
    from mpnn_arch.graphs import parse

    labels, parsed = [], []
    for spec in specs:
        named = parse(spec)
        labels += [spec] if len(named) == 1 else [f"{spec} [{i}]" for i in range(len(named))]
        parsed += named
    return labels, parsed


def _refuse_existing(out: Path | None, force: bool) -> None:
    if out is None:
        return
    if os.path.isdir(out):
        raise InputError(f"{shown_path(out)} is a folder; name a file in it")
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} exists; choose another name, or pass --force to overwrite it")
    if not os.path.isdir(out.parent) or not os.access(out.parent, os.W_OK):
        raise InputError(
            f"the folder {shown_path(out.parent)} cannot be written to; create it, or choose "
            "another"
        )
    check_writable(out)


def _write(graph: Any, out: Path) -> None:
    import networkx as nx
    import numpy as np

    def write(path: Path) -> None:
        if out.suffix == ".edges":
            source, target = graph.edges
            once = source <= target  # the reverse is implied
            np.savetxt(path, np.stack([source, target])[:, once].T, fmt="%d")
        elif out.suffix == ".graphml":
            nx.write_graphml(graph.to_networkx(), path)
        elif out.suffix == ".gexf":
            nx.write_gexf(graph.to_networkx(), path)
        elif out.suffix == ".npy":
            np.save(path, graph.adjacency.astype(np.uint8))
        else:
            separator = "," if out.suffix == ".csv" else ""
            np.savetxt(path, graph.adjacency, fmt="%d", delimiter=separator)

    if out.suffix == ".edges" and graph.is_directed:
        raise InputError(
            f"{out.name} would lose the directions of this graph; write .npy, .csv or .graphml"
        )
    write_whole(out, write)


def _names(spec: str, count: int) -> list[str]:
    """A name for each of the ``count`` graphs of a specification."""
    from mpnn_arch.studies.graph_names import names

    source, _, rest = spec.strip().partition(":")
    if count == 1:
        return [spec.strip()]
    if source not in ("sample", "published"):
        return names(spec, count)
    nodes, length, *places = rest.split("/")
    ends = [int(end) if end else None for end in places[0].split(":")] if places else [None]
    chosen = range(int(length))[slice(*ends) if len(ends) == 2 else slice(None)]
    return [f"{source}:{nodes}/{length}/{place}" for place in chosen]


def _title(name: str, graph: Any) -> str:
    """The name, in lines that fit above the drawing, and what is measured."""
    from mpnn_arch.graphs.drawing import LARGEST_DRAWN
    from mpnn_arch.io.figures import plain

    name = shown_path(name)
    if len(name) > 120:
        name = f"{name[:58]}...{name[-59:]}"
    lines = [name[i : i + 40] for i in range(0, len(name), 40)]
    size = f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges"
    if graph.num_nodes > LARGEST_DRAWN:
        return plain("\n".join([*lines, size]))
    measured = f"C {graph.clustering_coefficient:.3f}, "
    try:
        measured += f"L {graph.average_path_length:.3f}"
    except InputError:  # pairs that no path joins
        measured += "not connected"
    return plain("\n".join([*lines, size, measured]))
