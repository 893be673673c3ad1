"""The landscape: mean error over the plane of clustering coefficient and average path length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mpnn_arch.analysis.per_graph import Array, Numbers, per_graph
from mpnn_arch.checks import check_choice, check_kind, check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.bins import PAPER_BINS

Resolution = Literal["coarse", "fine"]


@dataclass(frozen=True)
class Plane:
    """Bins over the plane of C and L.

    C's bins are closed on the right, the lowest on both sides, so that the complete graph
    (C = L = 1) lies in the last; L's are closed on the left, the highest on both sides.

    Args:
        c_edges: (k + 1,) ascending.
        l_edges: (k + 1,) ascending.
        c_closed: ``"left"`` closes C's bins on the left, so that C = 1 is a bin of its own.
    """

    c_edges: Array
    l_edges: Array
    c_closed: Literal["left", "right"] = "right"

    @property
    def shape(self) -> tuple[int, int]:
        """Bins along C and along L; C = 1 counts where it is a bin of its own."""
        return len(self.c_edges) - 1 + (self.c_closed == "left"), len(self.l_edges) - 1

    def place(self, c: npt.ArrayLike, length: npt.ArrayLike) -> tuple[Numbers, Numbers]:
        """The bin of every graph along C and along L; -1 in both outside the plane."""
        c, length = np.asarray(c, dtype=np.float64), np.asarray(length, dtype=np.float64)
        side: Literal["left", "right"] = "left" if self.c_closed == "right" else "right"
        along_c = np.searchsorted(self.c_edges, c, side=side) - 1
        along_l = np.searchsorted(self.l_edges, length, side="right") - 1
        if self.c_closed == "right":
            along_c[c == self.c_edges[0]] = 0
        along_l[length == self.l_edges[-1]] = self.shape[1] - 1
        inside = (along_c >= 0) & (along_c < self.shape[0])
        inside &= (along_l >= 0) & (along_l < self.shape[1])
        return np.where(inside, along_c, -1), np.where(inside, along_l, -1)

    def centres(self, along_c: Numbers, along_l: Numbers) -> tuple[Array, Array]:
        """C and L of the middle of bins; 1 for C = 1 as a bin of its own."""
        c = np.append((self.c_edges[1:] + self.c_edges[:-1]) / 2, self.c_edges[-1])
        length = (self.l_edges[1:] + self.l_edges[:-1]) / 2
        return c[along_c], length[along_l]


def paper_plane(
    num_nodes: int,
    resolution: Resolution = "coarse",
    c_closed: Literal["left", "right"] = "right",
    longest: float | None = None,
) -> Plane:
    """The paper's bins: 15 x 15 and 135 x 135 for 64 nodes, 12 x 12 and 108 x 108 for 16.

    C from 0 to 1; L from 1 to 4.5 for 64 nodes and to 2.5 for 16. Other sizes, which the paper does
    not have, get 15 x 15 and 135 x 135 with L up to ``longest``, rounded up to halves.

    Raises:
        InputError: no such resolution, or another size without ``longest``.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.1 and its published code.

    Example:
        >>> from mpnn_arch.analysis import paper_plane
        >>> type(paper_plane(64, "coarse")).__name__
        'Plane'
    """
    check_choice("resolution", resolution, ("coarse", "fine"))
    num_nodes = check_whole("num_nodes", num_nodes, 2)
    if num_nodes in PAPER_BINS:
        choices = sorted(PAPER_BINS[num_nodes].values(), key=lambda bins: bins.count)
        bins = choices[0 if resolution == "coarse" else -1]
        count, ends = bins.count, bins.path_length
    elif longest is None or (isinstance(longest, float) and np.isnan(longest)):
        raise InputError(
            f"the paper has no bins for {num_nodes} nodes, only for 64 and 16; give the longest L"
        )
    else:
        longest = check_range("longest", longest, 1, 1e9)
        count, ends = 15 if resolution == "coarse" else 135, (1.0, np.floor(longest * 2) / 2 + 0.5)
    edges = np.linspace(0, 1, count + 1), np.linspace(*ends, count + 1)
    return Plane(*edges, c_closed=c_closed)


def plane_of(
    table: pd.DataFrame,
    resolution: Resolution = "coarse",
    c_closed: Literal["left", "right"] = "right",
) -> Plane:
    """:func:`paper_plane` for the graphs of a tidy table.

    Raises:
        InputError: graphs of several sizes, whose planes differ.
    """
    sizes = table["num_nodes"].unique()
    if len(sizes) != 1:
        raise InputError(
            f"a landscape is of graphs of one size, these have {sorted(map(int, sizes))} nodes; "
            "analyse each size by itself"
        )
    longest = float(table["average_path_length"].max())
    return paper_plane(int(sizes[0]), resolution, c_closed, longest)


def binned(graphs: pd.DataFrame, plane: Plane) -> pd.DataFrame:
    """``graphs`` inside the plane with their bins: ``c_bin``, ``l_bin``, and one number, ``bin``.

    ``bin`` is c_bin times the bins along L plus l_bin.
    """
    c_bin, l_bin = plane.place(graphs["clustering_coefficient"], graphs["average_path_length"])
    placed = graphs.assign(c_bin=c_bin, l_bin=l_bin, bin=c_bin * plane.shape[1] + l_bin)
    inside: pd.DataFrame = placed[placed["c_bin"] >= 0]
    return inside


def landscape(
    table: pd.DataFrame, resolution: Resolution = "coarse", plane: Plane | None = None
) -> pd.DataFrame:
    """Mean error of every occupied bin of the plane of C and L.

    Args:
        table: a tidy table; of several epochs the last is taken.
        resolution: ``"coarse"`` or ``"fine"``, see :func:`paper_plane`.
        plane: the bins, instead of the paper's.

    Returns:
        A row per bin: ``bin``, ``c_bin``, ``l_bin``, ``clustering_coefficient`` and
        ``average_path_length`` of its middle, ``graphs``, ``rows`` (graphs times seeds), ``mean``
        and ``std`` (with N - 1) over all rows, ``graph_std`` (with N - 1) over the graphs' means.

    Raises:
        InputError: graphs of several sizes, or none inside the plane.

    Example:
        >>> from mpnn_arch.analysis import landscape, load_results
        >>> bins = landscape(load_results("results.csv"))
        >>> len(bins), round(bins["mean"].min(), 1)
        (53, np.float64(38.6))
    """
    graphs = per_graph(table)
    if plane is None:
        plane = plane_of(graphs, resolution)
    check_kind("plane", plane, Plane, "make it with mpnn_arch.analysis.paper_plane")
    placed = binned(graphs, plane)
    if placed.empty:
        raise InputError(
            f"no graph lies within C {plane.c_edges[0]:g} to {plane.c_edges[-1]:g} and L "
            f"{plane.l_edges[0]:g} to {plane.l_edges[-1]:g}; give a wider plane"
        )
    groups = placed.groupby(["c_bin", "l_bin"], sort=True)
    bins = groups.agg(
        bin=("bin", "first"),
        graphs=("mean", "size"),
        rows=("seeds", "sum"),
        sum=("sum", "sum"),
        squares=("squares", "sum"),
        graph_std=("mean", "std"),
    ).reset_index()
    mean = bins["sum"] / bins["rows"]
    spread = (bins["squares"] - bins["rows"] * mean**2).clip(lower=0)
    bins["std"] = np.sqrt(spread / (bins["rows"] - 1).where(bins["rows"] > 1))
    c, length = plane.centres(bins["c_bin"].to_numpy(), bins["l_bin"].to_numpy())
    return bins.assign(mean=mean, clustering_coefficient=c, average_path_length=length)[
        [
            "bin",
            "c_bin",
            "l_bin",
            "clustering_coefficient",
            "average_path_length",
            "graphs",
            "rows",
            "mean",
            "std",
            "graph_std",
        ]
    ]
