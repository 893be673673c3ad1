"""Errors of graphs over the plane of C and L, from the results at hand, read in the background."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Where the results of this repository's own sweeps are, if the package runs in a copy of it.
OWN = Path(__file__).parents[2] / "experiments" / "results"


@dataclass(frozen=True)
class Landscape:
    """Mean test errors of the coarse bins (the paper's section 5.1).

    Attributes:
        name: of the results.
        bins: (C, L, error): the middle of a bin and the mean error of its graphs in percent.
        size: of a bin, along C and along L.
    """

    name: str
    bins: tuple[tuple[float, float, float], ...]
    size: tuple[float, float]

    def error_at(self, c: float, length: float) -> float | None:
        """Mean error of the bin that holds (C, L); None where no graph was trained."""
        for middle_c, middle_l, error in self.bins:
            near_c = abs(c - middle_c) <= self.size[0] / 2
            if near_c and abs(length - middle_l) <= self.size[1] / 2:
                return error
        return None


def read_landscapes(own: Path | None = None) -> dict[int, Landscape]:
    """The landscape for each number of nodes: of the published results, else of our own sweep.

    Of several results of graphs of one size the first by name is taken. Empty where the packages
    of the analysis are missing or there are no results.

    Args:
        own: folder of CSV files in the published style, read where none are published; None:
            :data:`OWN`.
    """
    own = OWN if own is None else own
    try:
        from mpnn_arch.analysis import load_results, published
    except InputError:  # the extra is not installed
        return {}
    try:
        tables = [table for _, table in published().groupby("results")]
    except InputError:
        tables = []
        for path in sorted(own.rglob("*.csv")) if own.is_dir() else []:
            try:
                tables += [table for _, table in load_results(path).groupby("results")]
            except (InputError, OSError):  # another table
                continue
    found: dict[int, Landscape] = {}
    for table in tables:
        for nodes, part in table.groupby("num_nodes"):
            landscape = _landscape(part)
            if landscape is not None:
                found.setdefault(int(nodes), landscape)
    return found


def _landscape(table: pd.DataFrame) -> Landscape | None:
    from mpnn_arch.analysis.landscape import landscape, plane_of

    try:
        plane = plane_of(table)
        bins = landscape(table, plane=plane)
    except InputError:  # too few of them, or none within the plane
        return None
    columns = ["clustering_coefficient", "average_path_length", "mean"]
    return Landscape(
        name=str(table["results"].iloc[0]),
        bins=tuple(
            (float(c), float(length), float(mean)) for c, length, mean in bins[columns].values
        ),
        size=(
            float(plane.c_edges[1] - plane.c_edges[0]),
            float(plane.l_edges[1] - plane.l_edges[0]),
        ),
    )


class InBackground:
    """Reads the landscapes in a thread: the analysis takes seconds to import, a slider must not."""

    def __init__(self) -> None:
        self._found: dict[int, Landscape] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to read, once."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, daemon=True)
                self._thread.start()

    def get(self, num_nodes: int, wait: float = 0.0) -> Landscape | None:
        """The landscape of graphs of this size, if it has been read.

        Args:
            num_nodes: of the graphs.
            wait: seconds to wait for it at most.
        """
        if self._thread is not None:
            self._thread.join(wait)
        return self._found.get(num_nodes)

    def _read(self) -> None:
        self._found = read_landscapes()


#: That of the page.
RESULTS = InBackground()
