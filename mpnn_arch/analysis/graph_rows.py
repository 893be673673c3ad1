"""From the row of a results file to its relational graph, and to that graph's C and L."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mpnn_arch.analysis.exact_csv import read_csv
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import GraphBatch, RelationalGraph, measure, parse_one
from mpnn_arch.graphs.design_space import C_AND_L, paper_grid
from mpnn_arch.graphs.generators.ws_flex import LARGEST_AS_BITS, ws_flex_words
from mpnn_arch.graphs.measures import MEASURES
from mpnn_arch.graphs.remote import data_folders

PARAMETERS = ("num_nodes", "density", "rewiring_probability", "graph_seed")
# Density and rewiring probability are published in full in the lists and to six digits beside the
# results, so rows are joined on six digits.
_DIGITS = 6


def identify(rows: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """One row per graph: its name, its parameters, and C and L.

    C and L are those that the rows carry, else those of a published list (``graphs_n64_3942.csv``
    and its like) in ``folder`` or in the folders of published data, else they are measured on the
    graph, made anew from its row (a density or p that is a rounded point of
    ``graphs.paper_grid`` is taken in full). A number of nodes that is missing is the graph's.

    Args:
        rows: distinct graphs, ``graph`` and, as far as they are there, ``PARAMETERS`` and C and L.
        folder: of the results file.

    Returns:
        The table, indexed as ``rows``, its ``graph`` a name that ``graphs.parse`` takes; rows whose
        graph is unknown are left out. And a sentence for each kind of row that was left out.
    """
    graphs = rows.reindex(columns=["graph", *PARAMETERS, *C_AND_L]).copy()
    graphs[list(C_AND_L)] = graphs[list(C_AND_L)].astype(float)
    notes: list[str] = []
    parametric = graphs["graph"].eq("ws_flex") & graphs[list(PARAMETERS)].notna().all(axis=1)
    _join_lists(graphs, parametric, folder)
    _restore_digits(graphs, parametric)
    _complete(graphs)
    graphs.loc[parametric, "graph"] = [_ws_flex_name(*row) for row in _values(graphs, parametric)]
    _measure_ws_flex(graphs, parametric & graphs[C_AND_L[0]].isna(), notes)
    needed = ["num_nodes", *C_AND_L]
    _measure_named(graphs, ~parametric & graphs[needed].isna().any(axis=1), notes)
    known = graphs[graphs[needed].notna().all(axis=1)].copy()
    _name_baseline(known)
    return known, notes


def rebuild(
    rows: pd.DataFrame, kept: Mapping[str, RelationalGraph] | None = None
) -> tuple[dict[str, RelationalGraph], list[str]]:
    """The graphs of a tidy table by name, and the names that are no graph's, or another one's.

    Args:
        rows: of the table.
        kept: graphs that need not be made.
    """
    graphs, unknown = dict(kept or {}), []
    columns = rows.reindex(columns=["graph", *C_AND_L]).drop_duplicates("graph")
    for name, *measured in columns.itertuples(index=False):
        if name in graphs:
            continue
        try:
            graph = parse_one(name)
            # A file may hold another graph by now than the one that was trained.
            is_that = not name.startswith("file:") or _has(graph, measured)
        except InputError:
            is_that = False
        if is_that:
            graphs[name] = graph
        else:
            unknown.append(name)
    return graphs, unknown


def _has(graph: RelationalGraph, measured: list[float]) -> bool:
    """Whether C and L, of which tables hold six digits or more, are the graph's, where known."""
    if not np.isfinite(measured).all():
        return True
    return np.allclose([getattr(graph, name) for name in C_AND_L], measured, rtol=1e-4)


def read_lists(folder: Path, num_nodes: int) -> Iterator[pd.DataFrame]:
    """The lists of graphs in ``folder`` and in the folders of published data."""
    for place in dict.fromkeys([folder, *data_folders(None)]):
        for path in sorted(place.glob(f"graphs_n{num_nodes}_*.csv")):
            yield read_csv(path)


def published_lists(folder: Path, num_nodes: int) -> pd.DataFrame:
    """All graphs of the lists ``graphs_n{num_nodes}_*.csv`` that are at hand, once each."""
    columns = ["num_nodes", "density", "rewiring_probability", "seed", *C_AND_L]
    read = read_lists(folder, num_nodes)
    tables = [table[columns] for table in read if set(columns) <= set(table.columns)]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True).drop_duplicates(columns[:4])


def _join_lists(graphs: pd.DataFrame, where: pd.Series, folder: Path) -> None:
    missing = where & graphs[C_AND_L[0]].isna()
    for num_nodes in graphs.loc[missing, "num_nodes"].unique():
        listed = published_lists(folder, int(num_nodes))
        by_key = dict(zip(_keys(listed, "seed"), listed.to_numpy().tolist(), strict=True))
        rows = graphs.index[missing & graphs["num_nodes"].eq(num_nodes)]
        matches = [by_key.get(key) for key in _keys(graphs.loc[rows], "graph_seed")]
        joined = rows[[row is not None for row in matches]]
        values = np.array([row for row in matches if row is not None]).reshape(-1, 6)
        graphs.loc[joined, ["density", "rewiring_probability", *C_AND_L]] = values[:, [1, 2, 4, 5]]


def _restore_digits(graphs: pd.DataFrame, where: pd.Series) -> None:
    """Density and p that are a point of the paper's grid, rounded, in full.

    A graph made from rounded parameters can differ by an edge.
    """
    for num_nodes in graphs.loc[where, "num_nodes"].unique():
        if num_nodes < 8:
            continue
        rows = graphs.index[where & graphs["num_nodes"].eq(num_nodes)]
        grid = paper_grid(int(num_nodes))
        densities = np.array(grid["average_degree"]) / num_nodes
        for column, points in (
            ("density", densities),
            ("rewiring_probability", np.array(grid["rewiring_probability"])),
        ):
            given = graphs.loc[rows, column].to_numpy(dtype=np.float64)
            nearest = points[np.abs(given[:, None] - points).argmin(axis=1)]
            same = nearest.round(_DIGITS) == given.round(_DIGITS)
            graphs.loc[rows, column] = np.where(same, nearest, given)


def _keys(table: pd.DataFrame, seed: str) -> list[tuple[float, float, int]]:
    return list(
        zip(
            table["density"].astype(float).round(_DIGITS),
            table["rewiring_probability"].astype(float).round(_DIGITS),
            table[seed].astype(int),
            strict=True,
        )
    )


def _complete(graphs: pd.DataFrame) -> None:
    """Rows that say ``complete``: C = L = 1, whatever seed they carry."""
    where = graphs["graph"].eq("complete") & graphs["num_nodes"].notna()
    graphs.loc[where, list(C_AND_L)] = 1.0
    graphs.loc[where, "graph"] = [f"complete:{int(n)}" for n in graphs.loc[where, "num_nodes"]]


def _name_baseline(graphs: pd.DataFrame) -> None:
    """Call a graph with C = L = 1, such as ring:64,63, complete, where no other is called so."""
    there = set(graphs["graph"])
    for index, num_nodes in graphs.loc[graphs[C_AND_L[1]].eq(1), "num_nodes"].items():
        name = f"complete:{int(num_nodes)}"
        if name not in there:
            graphs.loc[index, "graph"] = name
            there.add(name)


def _values(graphs: pd.DataFrame, where: pd.Series) -> list[list[float]]:
    rows: list[list[float]] = graphs.loc[where, list(PARAMETERS)].astype(float).to_numpy().tolist()
    return rows


def _ws_flex_name(num_nodes: float, density: float, p: float, seed: float) -> str:
    return f"ws_flex:{int(num_nodes)},{num_nodes * density!r},{p!r},{int(seed)}"


def _measure_ws_flex(graphs: pd.DataFrame, where: pd.Series, notes: list[str]) -> None:
    for num_nodes in graphs.loc[where, "num_nodes"].unique():
        here = where & graphs["num_nodes"].eq(num_nodes)
        rows = graphs.loc[here]
        if num_nodes > LARGEST_AS_BITS:  # no matrix of theirs would fit
            _measure_named(graphs, here, notes)
            continue
        arguments = (
            rows["density"] * num_nodes,
            rows["rewiring_probability"],
            rows["graph_seed"].astype(int),
        )
        try:
            batch = GraphBatch(ws_flex_words(int(num_nodes), *arguments))
        except InputError:  # one of them cannot be graphs: take them one by one
            _measure_named(graphs, here, notes)
            continue
        for name in C_AND_L:
            graphs.loc[rows.index, name] = MEASURES.get(name)(batch)


def _measure_named(graphs: pd.DataFrame, where: pd.Series, notes: list[str]) -> None:
    by_name, unknown = rebuild(graphs[where].astype({"graph": str}))
    unmeasured = []
    for index, name in graphs.loc[where, "graph"].astype(str).items():
        if name not in by_name:
            continue
        graph = by_name[name]
        if graphs.loc[index, list(C_AND_L)].isna().any():
            try:
                graphs.loc[index, list(C_AND_L)] = measure(graph)[list(C_AND_L)].to_numpy()[0]
            except InputError:
                unmeasured.append(name)
                continue
        graphs.loc[index, "num_nodes"] = graph.num_nodes
        if pd.isna(graphs.loc[index, "density"]):
            graphs.loc[index, "density"] = graph.density
        # A graph such as complete:64 or ring:64,63 is the baseline under whatever name.
        if (graph.degrees == graph.num_nodes - 1).all():
            graphs.loc[index, "graph"] = f"complete:{graph.num_nodes}"
    for names, why in ((unknown, "cannot be made from its row"), (unmeasured, "has no C and L")):
        if names:
            notes.append(
                f"{len(names)} of {len(graphs)} graphs left out: {names[0]!r} {why}; give ws_flex "
                "with num_nodes, density, rewiring_probability and graph_seed, complete, a name "
                "that `mpnn-arch graphs` takes, or columns with num_nodes, C and L"
            )
