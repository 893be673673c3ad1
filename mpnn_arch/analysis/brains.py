"""Biological networks beside artificial ones, in the landscape and against nulls (Table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mpnn_arch.analysis.landscape import binned, landscape, plane_of
from mpnn_arch.analysis.per_graph import per_graph, without_baseline
from mpnn_arch.analysis.sweet_spot import sweet_spot
from mpnn_arch.analysis.tidy_results import Results
from mpnn_arch.checks import check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import (
    CONNECTOMES,
    GraphBatch,
    RelationalGraph,
    connectome,
    parse_one,
    rewired,
)
from mpnn_arch.graphs.design_space import C_AND_L
from mpnn_arch.graphs.measures import average_path_length
from mpnn_arch.graphs.measures.clustering import neighbourhood_clustering


def connectomes(
    root: str | Path | None = None,
    results: Sequence[Results] = (),
    nulls: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Cat and macaque cortex beside the best graph of every result.

    C is the share of links among a node's in- and out-neighbours, L the mean directed path over
    reachable pairs: the definitions that come closest to the paper's table, and for undirected
    graphs the usual ones. A network's nulls are rewirings that keep the degrees of every node, in
    and out: what differs from them is structure beyond degrees. The landscapes are of graphs of 64
    (or 16) nodes, the cortices have 30 to 71 areas; L grows with the number of nodes, so their
    places are a comparison by eye, as they are in the paper.

    Args:
        root: see :func:`mpnn_arch.graphs.connectome`.
        results: landscapes to place the networks in, see
            :func:`mpnn_arch.analysis.results.read_many`.
        nulls: rewirings of every network; 0 for none.
        seed: of the first rewiring; the others follow.

    Returns:
        A row a network: ``network``, ``num_nodes``, ``density`` (mean degree over N), ``C``,
        ``L``; ``null_C``, ``null_L`` and ``null_C_std``, ``null_L_std``: mean and deviation (with
        N - 1) over the nulls; ``error``, of the best graphs; and for every result
        ``bin_error NAME``, the mean error of the coarse bin of (C, L) without the dense network,
        NaN where no graph lies there, and ``in_sweet_spot NAME``.

    Raises:
        InputError: a connectome that cannot be read, or results that give no sweet spot.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.5 and Table 2.

    Example:
        >>> from mpnn_arch.analysis import connectomes
        >>> connectomes("nowhere", nulls=-1)
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: nulls is between 0 and 10000, -1 was given; choose a value ...
    """
    nulls = check_whole("nulls", nulls, 0, 10_000)
    seed = check_whole("seed", seed, 0)
    rows = [_row(name, connectome(name, root), nulls, seed) for name in CONNECTOMES]
    for one in results:
        best = per_graph(without_baseline(one.table)).iloc[0]
        graph = parse_one(best["graph"])
        rows.append({**_row(f"best of {one.name}", graph, nulls, seed), "error": best["mean"]})
    table = pd.DataFrame(rows)
    if "error" not in table:
        table["error"] = np.nan
    for one in results:
        table = _placed(table, one)
    return table


def _row(name: str, graph: RelationalGraph, nulls: int, seed: int) -> dict[str, Any]:
    c, length = _c_and_l([graph])
    row = {
        "network": name,
        "num_nodes": graph.num_nodes,
        "density": float(graph.degrees.mean()) / graph.num_nodes,
        "C": float(c[0]),
        "L": float(length[0]),
    }
    spread = dict.fromkeys(("null_C", "null_C_std", "null_L", "null_L_std"), np.nan)
    if nulls:
        try:
            drawn = _c_and_l([rewired(graph, seed + place) for place in range(nulls)])
        except InputError:  # a complete graph has no other with its degrees
            return {**row, **spread}
        for measure, values in zip(("C", "L"), drawn, strict=True):
            spread[f"null_{measure}"] = float(values.mean())
            spread[f"null_{measure}_std"] = float(values.std(ddof=1)) if nulls > 1 else np.nan
    return {**row, **spread}


def _c_and_l(graphs: list[RelationalGraph]) -> tuple[np.ndarray, np.ndarray]:
    batch = GraphBatch.of(graphs, reachable_only=True)
    return neighbourhood_clustering(batch), average_path_length(batch)


def _placed(table: pd.DataFrame, results: Results) -> pd.DataFrame:
    """With the error of every network's bin, and whether it lies in the sweet spot."""
    graphs = without_baseline(results.table)
    bins = landscape(graphs).set_index("bin")["mean"]
    plane = plane_of(graphs)
    named = table.rename(columns=dict(zip(("C", "L"), C_AND_L, strict=True)))
    place = binned(named, plane)["bin"].reindex(table.index)
    inside = sweet_spot(results.table).contains(named)
    return table.assign(
        **{
            f"bin_error {results.name}": place.map(bins).astype(float),
            f"in_sweet_spot {results.name}": inside,
        }
    )
