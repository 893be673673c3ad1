"""Few graphs: do k graphs show the landscape of all?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mpnn_arch.analysis.correlation import Correlation, correlate
from mpnn_arch.analysis.graph_rows import identify, read_lists
from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.per_graph import Numbers, is_constant, per_graph, without_baseline
from mpnn_arch.checks import as_list, check_whole
from mpnn_arch.errors import InputError

COUNTS = (13, 26, 52, 104, 208, 449, 900, 1800)


def few_graphs(table: pd.DataFrame, chosen: Sequence[str]) -> Correlation:
    """Correlation of the bin means of some graphs with those of all, over the bins of the former.

    Coarse bins, the baseline left out.

    Args:
        table: a tidy table.
        chosen: names of graphs, as in its column ``graph``.

    Raises:
        InputError: none of them is in the table, or they lie in fewer than four bins.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.4 and Figure 5, left.

    Example:
        >>> from mpnn_arch.analysis import few_graphs, load_results
        >>> table = load_results("results.csv")
        >>> chosen = sorted(set(table["graph"]) - {"complete:64"})[::2]
        >>> few_graphs(table, chosen).pearson > 0.9
        True
    """
    graphs = _placed(table)
    few = graphs[graphs["graph"].isin(as_list("chosen", chosen))]
    if few.empty:
        raise InputError("none of the chosen graphs is in the results; choose from their graphs")
    pairs = pd.concat([_bin_means(few), _bin_means(graphs)], axis=1, join="inner").to_numpy()
    return correlate(pairs[:, 0], pairs[:, 1])


def few_graphs_by_count(
    table: pd.DataFrame, counts: Sequence[int] = COUNTS, draws: int = 100, seed: int = 0
) -> pd.DataFrame:
    """As :func:`few_graphs` for random graphs, spread over the bins as evenly as can be.

    Args:
        table: a tidy table.
        counts: k; those of as many graphs as there are, or more, are left out.
        draws: random choices for every k.
        seed: of the choices.

    Returns:
        A row for every k: ``graphs``, and the mean, lowest and highest (5 and 95 %) Pearson
        correlation over the draws: ``pearson``, ``pearson_low``, ``pearson_high``.

    Raises:
        InputError: fewer than four bins, or one graph in each.

    Example:
        >>> from mpnn_arch.analysis import few_graphs_by_count, load_results
        >>> few_graphs_by_count(load_results("results.csv"), counts=[13])
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: there is one graph per bin, so fewer graphs are fewer bins; ...
    """
    counts = [check_whole("a count", count, 1) for count in as_list("counts", counts)]
    draws, seed = check_whole("draws", draws, 1, 10**6), check_whole("seed", seed, 0)
    graphs = _placed(table)
    random = np.random.default_rng(seed)
    place = graphs["bin"].rank(method="dense").to_numpy().astype(int) - 1
    total, sums, counted = place.max() + 1, graphs["sum"].to_numpy(), graphs["seeds"].to_numpy()
    if total < 4:
        raise InputError(
            f"four bins with graphs or more are needed to correlate, not {total}; give more graphs"
        )
    if total == len(graphs):
        raise InputError(
            "there is one graph per bin, so fewer graphs are fewer bins; give several graphs per "
            "bin"
        )
    every = np.bincount(place, sums) / np.bincount(place, counted)
    rows = []
    for count in counts:
        if not 4 <= count < len(graphs):
            continue
        correlations = []
        for _ in range(draws):
            kept = _spread(place, count, random)
            size = np.bincount(place[kept], counted[kept], total)
            seen = size > 0
            few = np.bincount(place[kept], sums[kept], total)[seen] / size[seen]
            if seen.sum() >= 4 and not is_constant(few):
                correlations.append(np.corrcoef(few, every[seen])[0, 1])
        if correlations:
            low, high = np.quantile(correlations, [0.05, 0.95])
            rows.append((count, np.mean(correlations), low, high))
    return pd.DataFrame(rows, columns=["graphs", "pearson", "pearson_low", "pearson_high"])


def listed_subsets(table: pd.DataFrame, folder: Path) -> Mapping[int, list[str]]:
    """The published lists at hand that are a part of the results' graphs: count -> names."""
    ours = set(without_baseline(table)["graph"])
    lists: dict[int, list[str]] = {}
    for listed in read_lists(folder, int(table["num_nodes"].iloc[0])):
        rows = listed.rename(columns={"seed": "graph_seed"}).assign(graph="ws_flex")
        names = list(identify(rows, folder)[0]["graph"])
        if len(names) < len(ours) and ours.issuperset(names):
            lists.setdefault(len(names), names)
    return dict(sorted(lists.items()))


def _placed(table: pd.DataFrame) -> pd.DataFrame:
    graphs = per_graph(without_baseline(table))
    return binned(graphs, plane_of(graphs))


def _bin_means(graphs: pd.DataFrame) -> pd.Series:
    sums = graphs.groupby("bin")[["sum", "seeds"]].sum()
    means: pd.Series = sums["sum"] / sums["seeds"]
    return means


def _spread(place: Numbers, count: int, random: np.random.Generator) -> Numbers:
    """Indices of ``count`` random rows: one of every bin before the second of any."""
    order = random.permutation(len(place))
    shuffled = place[order]
    by_bin = np.argsort(shuffled, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(shuffled))[:-1]])
    turn = np.empty(len(place), dtype=np.int64)
    turn[by_bin] = np.arange(len(place)) - np.repeat(starts, np.bincount(shuffled))
    # Bins take turns in a random order, so that a short last round favours none.
    rank = random.permutation(shuffled.max() + 1)[shuffled]
    chosen: Numbers = order[np.lexsort((rank, turn))[:count]]
    return chosen
