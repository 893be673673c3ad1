"""Bins over the plane of C and L: selecting graphs that cover it, and how much a list covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import as_list, check_columns, check_kind, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.design_space import C_AND_L

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Bins:
    """A grid of bins over the plane of clustering coefficient and average path length.

    Args:
        count: bins along either axis.
        path_length: lowest and highest L; C runs from 0 to 1.

    Example:
        >>> from mpnn_arch import graphs
        >>> table = graphs.measure([graphs.ring(16, 4), graphs.complete(16)])
        >>> graphs.Bins(10, path_length=(1, 4)).place(table)
        (array([ 54, 100]), array([ True, False]))
    """

    count: int
    path_length: tuple[float, float]

    def __post_init__(self) -> None:
        check_whole("the number of bins along an axis", self.count, 1)
        ends = as_list("path_length", self.path_length)
        if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
            raise InputError(
                f"path_length is a lowest and a highest L, not {shown(self.path_length)}; give two "
                "numbers"
            )
        low, high = ends
        if not -np.inf < low < high < np.inf:
            raise InputError(f"path_length {low:g} to {high:g} holds no bin; give low < high")

    def place(self, table: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The bin number of every row (count x C's bin + L's bin), and whether it is inside."""
        column, row = self._along(table)
        inside = (column >= 0) & (column < self.count) & (row >= 0) & (row < self.count)
        return column * self.count + row, inside

    def off_centre(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Squared distance of every row from the centre of its bin, in bin widths."""
        c, length = self._scaled(table)
        return (c % 1 - 0.5) ** 2 + (length % 1 - 0.5) ** 2

    def _scaled(self, table: pd.DataFrame) -> tuple[Any, Any]:
        low, high = self.path_length
        c = table["clustering_coefficient"].to_numpy() * self.count
        length = (table["average_path_length"].to_numpy() - low) / (high - low) * self.count
        return c, length

    def _along(self, table: pd.DataFrame) -> tuple[Any, Any]:
        # Compared with the edges instead of divided, so that a graph on an edge falls into the same
        # bin as in the published lists.
        c_edges = np.linspace(0, 1, self.count + 1)
        l_edges = np.linspace(*self.path_length, self.count + 1)
        c = np.searchsorted(c_edges, table["clustering_coefficient"].to_numpy(), side="right")
        length = np.searchsorted(l_edges, table["average_path_length"].to_numpy(), side="right")
        return c - 1, length - 1


# The bins of the published lists, by nodes and then by graphs in the list.
PAPER_BINS: dict[int, dict[int, Bins]] = {
    64: {3942: Bins(135, (1, 4.5)), 449: Bins(45, (1, 4.5)), 52: Bins(15, (1, 4.5))},
    16: {2698: Bins(108, (1, 2.5)), 326: Bins(36, (1, 2.5)), 48: Bins(12, (1, 2.5))},
}


def subsample(table: pd.DataFrame, bins: Bins) -> pd.DataFrame:
    """One graph per bin of (C, L): the one nearest the bin's centre, the first in case of a tie.

    Args:
        table: rows with ``clustering_coefficient`` and ``average_path_length``.
        bins: the bins; those of the paper are ``PAPER_BINS[num_nodes][count]``.

    Returns:
        The selected rows, ordered by bin. Rows outside the bins are never selected.

    Raises:
        InputError: a table that lacks a column, or no bins.

    Example:
        >>> import pandas as pd
        >>> from mpnn_arch import graphs
        >>> table = graphs.measure(graphs.sample(64, 52))
        >>> len(graphs.subsample(table, graphs.Bins(3, path_length=(1, 4))))
        7
    """
    _check(table, bins)
    bin_number, inside = bins.place(table)
    kept = np.flatnonzero(inside)
    order = kept[np.lexsort((kept, bins.off_centre(table)[kept], bin_number[kept]))]
    _, first = np.unique(bin_number[order], return_index=True)
    return table.iloc[order[first]].reset_index(drop=True)


def coverage(ours: pd.DataFrame, theirs: pd.DataFrame, bins: Bins) -> float:
    """Fraction of the bins occupied by ``theirs`` that ``ours`` occupies too.

    Raises:
        InputError: a table that lacks a column, no bins, or ``theirs`` occupies none of them.

    Example:
        >>> from mpnn_arch import graphs
        >>> table = graphs.measure(graphs.sample(64, 52))
        >>> round(graphs.coverage(table[:26], table, graphs.Bins(3, path_length=(1, 4))), 2)
        0.57
    """
    _check(ours, bins)
    _check(theirs, bins)
    mine, my_inside = bins.place(ours)
    other, other_inside = bins.place(theirs)
    wanted = np.unique(other[other_inside])
    if not len(wanted):
        low, high = bins.path_length
        raise InputError(
            f"none of the {len(theirs)} graphs to be covered lies in the bins, which are of C from "
            f"0 to 1 and of L from {low:g} to {high:g}; give bins with another path_length"
        )
    return float(np.isin(wanted, mine[my_inside]).mean())


def _check(table: pd.DataFrame, bins: Bins) -> None:
    check_columns(table, C_AND_L, "make one with mpnn_arch.graphs.measure")
    check_kind("bins", bins, Bins, "give mpnn_arch.graphs.Bins(count, (lowest L, highest L))")
