"""Do architectures agree on which graphs are good?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from mpnn_arch.analysis.correlation import Correlation, correlate
from mpnn_arch.analysis.density_curve import DensityCurve, with_density
from mpnn_arch.analysis.landscape import binned, landscape, plane_of
from mpnn_arch.analysis.per_graph import per_graph, without_baseline
from mpnn_arch.analysis.results_table import check_table
from mpnn_arch.checks import check_kind
from mpnn_arch.errors import InputError


def bin_pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Mean errors of the coarse bins that both results occupy.

    C's bins are closed on the left, so that the complete graph is a bin of its own.

    Returns:
        The middle of every bin, ``first`` and ``second``.

    Raises:
        InputError: graphs of different sizes.

    Example:
        >>> from mpnn_arch.analysis import bin_pairs, load_results
        >>> table = load_results("results.csv")
        >>> len(bin_pairs(table, table))
        53
    """
    _same_size(first, second)
    plane = plane_of(pd.concat([first, second]), c_closed="left")
    keys = ["bin", "clustering_coefficient", "average_path_length"]
    sides = [
        landscape(table, plane=plane)[[*keys, "mean"]].rename(columns={"mean": side})
        for table, side in ((first, "first"), (second, "second"))
    ]
    return sides[0].merge(sides[1][["bin", "second"]], on="bin")


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> Correlation:
    """Correlation of two architectures' mean errors over the coarse bins, the baseline included.

    Raises:
        InputError: graphs of different sizes, or fewer than four bins in common.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.3.

    Example:
        >>> from mpnn_arch.analysis import agreement, load_results
        >>> table = load_results("results.csv")
        >>> round(agreement(table, table).pearson, 2)  # with itself
        1.0
    """
    pairs = bin_pairs(first, second)
    return correlate(pairs["first"], pairs["second"])


def agreement_beyond_density(first: pd.DataFrame, second: pd.DataFrame) -> Correlation:
    """As :func:`agreement`, of what density leaves unexplained, without the baseline.

    Each side's errors are those of its graphs less its own curve of error against density. Two
    architectures that merely share a best density do not agree here.

    Raises:
        InputError: as :func:`agreement`.

    Example:
        >>> from mpnn_arch.analysis import agreement_beyond_density, load_results
        >>> table = load_results("results.csv")
        >>> round(agreement_beyond_density(table, table).pearson, 2)  # with itself
        1.0
    """
    _same_size(first, second)
    plane = plane_of(pd.concat([first, second]), c_closed="left")
    sides = []
    for table in (first, second):
        graphs = with_density(per_graph(without_baseline(table)))
        residual = graphs["mean"] - DensityCurve.fit(graphs).predict(graphs["density"])
        placed = binned(graphs.assign(residual=residual), plane)
        sides.append(placed.groupby("bin")["residual"].mean())
    pairs = pd.concat(sides, axis=1, join="inner").to_numpy()
    return correlate(pairs[:, 0], pairs[:, 1])


def consistency(tables: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, list[str]]:
    """Agreement of every pair of results.

    Args:
        tables: tidy tables by name.

    Returns:
        A row a pair: ``first``, ``second``, the correlations, and ``pearson_beyond_density`` with
        its p-value (not a number where it could not be had); and sentences on pairs left out.

    Example:
        >>> from mpnn_arch.analysis import consistency, load_results
        >>> table = load_results("results.csv")
        >>> pairs, left_out = consistency({"one": table, "again": table})
        >>> len(pairs)
        1
    """
    check_kind("tables", tables, Mapping, "give them by name, as {'mlp': table}")
    rows, notes = [], []
    for (one, first), (other, second) in combinations(tables.items(), 2):
        try:
            row = {"first": one, "second": other, **agreement(first, second).to_dict()}
        except InputError as error:
            notes.append(f"{one} and {other} are not compared: {error}")
            continue
        try:
            beyond = agreement_beyond_density(first, second)
            row |= {
                "pearson_beyond_density": beyond.pearson,
                "pearson_beyond_density_p": beyond.pearson_p,
                "pearson_beyond_density_interval": beyond.pearson_interval,
            }
        except InputError as error:
            row |= {"pearson_beyond_density": np.nan, "pearson_beyond_density_p": np.nan}
            notes.append(f"{one} and {other} are not compared beyond density: {error}")
        rows.append(row)
    return pd.DataFrame(rows), notes


def _same_size(first: pd.DataFrame, second: pd.DataFrame) -> None:
    for table in (first, second):
        check_table(table)
    sizes = [sorted(map(int, table["num_nodes"].unique())) for table in (first, second)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"they have graphs of {sizes[0]} and of {sizes[1]} nodes, whose planes of C and L "
            "differ; compare results of one size"
        )
