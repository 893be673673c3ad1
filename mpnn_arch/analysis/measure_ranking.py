"""Which measure of a graph explains its error, alone and beyond density?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mpnn_arch.analysis.cross_validation import explained, explained_interval, held_out
from mpnn_arch.analysis.density_curve import density_features, with_density
from mpnn_arch.analysis.graph_rows import rebuild
from mpnn_arch.analysis.per_graph import per_graph, without_baseline
from mpnn_arch.checks import as_list, check_whole, counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import GraphBatch, list_measures
from mpnn_arch.graphs.given import GivenGraph, as_named_graphs
from mpnn_arch.graphs.measures import MEASURES

# Some measures take ten milliseconds a graph; this many graphs rank them well enough.
MOST = 250
# About 200 ms a graph, an optimal transport for every edge: ranked if named.
COSTLY = ("ollivier_ricci_curvature",)


def rank_measures(
    table: pd.DataFrame,
    names: Sequence[str] | None = None,
    most: int = MOST,
    seed: int = 0,
    graphs: Mapping[str, GivenGraph] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Measures by the cross-validated share of the variance between graphs that they explain.

    Each measure enters with its square; density as a cubic of its logarithm.

    Args:
        table: a tidy table; the baseline is left out.
        names: of ``graphs.list_measures()``; by default all but Ollivier-Ricci curvature, which
            takes about 200 ms a graph.
        most: graphs measured; of more, so many are drawn at random.
        seed: of that draw and of the folds.
        graphs: those of the table by name, if they are at hand; else they are made.

    Returns:
        A row a measure, best first: ``measure``, ``alone``, ``beyond_density`` (what it adds to
        density) with ``beyond_low`` and ``beyond_high`` (95 % over resampled graphs), ``graphs``;
        and a sentence on each measure that was left out.

    Raises:
        InputError: an unknown measure, or fewer than ten graphs that can be made.

    Example:
        >>> from mpnn_arch.analysis import load_results, rank_measures
        >>> table = load_results("results.csv")
        >>> ranking, left_out = rank_measures(table, ["average_path_length", "density"])
        >>> ranking["measure"][0]
        'average_path_length'
    """
    most, seed = check_whole("most", most, 10), check_whole("seed", seed, 0, 2**32 - 1)
    if names is not None:
        names = as_list("names", names)
    rows = with_density(per_graph(without_baseline(table)))
    if len(rows) > most:
        rows = rows.iloc[np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])]
    by_name, unknown = rebuild(rows) if graphs is None else (as_named_graphs(graphs), [])
    rows = rows[rows["graph"].isin(list(by_name))].reset_index(drop=True)
    lost = counted(len(unknown), "graph")
    notes = [f"{lost} cannot be made and measured"] if unknown else []
    if len(rows) < 10:
        raise InputError(
            f"{counted(len(rows), 'graph')} can be made; ten or more are needed to rank measures"
        )
    batch = GraphBatch.of([by_name[name] for name in rows["graph"]])
    errors = rows["mean"].to_numpy(dtype=np.float64)
    density = density_features(rows)
    by_density = held_out(density, errors, seed=seed)
    ranks = []
    if names is None:
        names = [name for name in list_measures() if name not in COSTLY]
    for name in names:
        try:
            values = np.asarray(MEASURES.get(name)(batch), dtype=np.float64)
        except InputError as error:
            if name not in MEASURES:
                raise
            notes.append(f"{name} is left out: {error}")
            continue
        use = np.isfinite(values)
        if use.sum() < max(10, 0.9 * len(values)) or np.ptp(values[use]) < 1e-12:
            notes.append(f"{name} is left out: it is constant or not a number for many graphs")
            continue
        values = np.where(use, values, np.nanmean(np.where(use, values, np.nan)))
        values = (values - values.mean()) / values.std()
        pair = np.stack([values, values**2], axis=1)
        alone = held_out(pair, errors, seed=seed)
        both = held_out(np.hstack([density, pair]), errors, seed=seed)
        gain = explained(both, errors) - explained(by_density, errors)
        low, high = explained_interval(both, errors, by_density, draws=200, seed=seed)
        ranks.append((name, explained(alone, errors), gain, low, high, len(rows)))
    columns = ["measure", "alone", "beyond_density", "beyond_low", "beyond_high", "graphs"]
    ranked = pd.DataFrame(ranks, columns=columns)
    return ranked.sort_values("alone", ascending=False, ignore_index=True), notes
