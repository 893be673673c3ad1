"""Lists of WS-flex graphs that cover the plane of C and L: the paper's, and our own samples."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_path, check_whole, parse_number, parse_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import remote
from mpnn_arch.graphs.generators.ws_flex import ws_flex
from mpnn_arch.graphs.relational_graph import RelationalGraph


@dataclass(frozen=True)
class WSFlexParameters:
    """The parameters of one graph of a list."""

    num_nodes: int
    average_degree: float
    rewiring_probability: float
    seed: int

    def make(self) -> RelationalGraph:
        """The graph."""
        return ws_flex(self.num_nodes, self.average_degree, self.rewiring_probability, self.seed)


# num_nodes -> graphs in the list -> SHA-256 of its six columns (nodes, density, p, seed, C, L) as
# little-endian float64, row by row: the same for the CSV and the .npy form.
PUBLISHED: dict[int, dict[int, str]] = {
    64: {
        3942: "c42e09f9fe5fe4bd7ab80057cc5bff0aa56d514c26d5b99ea1b8a6a421aecc42",
        449: "73de97287d5623023b3f5c410446b44dd8b1236f0d67a9144d65741f65b08a56",
        52: "4f87f687d6314267e5d5c4574b4c57426c636a83d0e9c032fed64975ca17a5e8",
    },
    16: {
        2698: "6d0fcfd4ea66a3ac6b147a3608af08e0c22cb6402658425befaab04b444430be",
        326: "e9704ca4d27a32da3e4be796d9845931056d2a452aa7318cb2dedc3341675e34",
        48: "7b37eea2250c855a8762652caf92fedc51fa2f13f6d73e89f8e85701078b08d6",
    },
}
SAMPLES: dict[int, tuple[int, ...]] = {64: (3942, 449, 52), 16: (2698, 326, 48)}

_COLUMNS = (
    "num_nodes",
    "density",
    "rewiring_probability",
    "seed",
    "clustering_coefficient",
    "average_path_length",
)


def published(
    num_nodes: int, count: int, root: str | Path | None = None, *, download: bool = True
) -> list[RelationalGraph]:
    """The paper's graphs, in the order of its file.

    Args:
        num_nodes: 64 or 16.
        count: 3942, 449 or 52 of 64 nodes; 2698, 326 or 48 of 16.
        root: folder with ``graphs_n<nodes>_<count>.csv`` (or ``.npy``, as in the paper's public
            repository), also within ``published/`` or ``analysis/``; by default $MPNN_ARCH_DATA,
            then the cache.
        download: fetch a missing list from the paper's public repository.

    Raises:
        InputError: no such list, a file that is missing or differs from the published one, or a
            failed download, which leaves no file behind.

    Source: You, Leskovec, He, Xie, ICML 2020, section 3.3; facebookresearch/graph2nn (MIT).

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.published(64, 52, "nowhere", download=False)
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: graphs_n64_52.csv is not in nowhere; put it there, or pass ...
    """
    return [p.make() for p in published_parameters(num_nodes, count, root, download=download)]


def published_parameters(
    num_nodes: int, count: int, root: str | Path | None = None, *, download: bool = True
) -> list[WSFlexParameters]:
    """The parameters of the graphs of :func:`published`.

    Raises:
        InputError: as for :func:`published`.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.published_parameters(64, 50)
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: there is no published list of 50 graphs of 64 nodes; there ...
    """
    check_listed("published", num_nodes, count)
    stem = f"graphs_n{num_nodes}_{count}"
    names = [
        f"{folder}{stem}{end}"
        for end in (".csv", ".npy")
        for folder in ("", "published/", "analysis/")
    ]
    table = remote.obtain(
        names,
        root,
        lambda path: _read(path, PUBLISHED[num_nodes][count]),
        remote=f"analysis/{stem}.npy",
        store_as=f"{stem}.npy",
        download=download,
    )
    return [
        WSFlexParameters(int(n), n * density, p, int(seed))
        for n, density, p, seed in table[:, :4].tolist()
    ]


def sample(num_nodes: int, count: int) -> list[RelationalGraph]:
    """Our own graphs, shipped, which cover the plane of C and L as the paper's lists do.

    ``experiments/make_samples.py`` generated them: ``sweep_design_space`` over the paper's whole
    grid with seeds 0 to 29, then ``subsample``. They occupy all 3,942 published bins of 64 nodes,
    and all but one of the 2,698 of 16 nodes. Each smaller list is part of the larger ones.

    Args:
        num_nodes: 64 or 16.
        count: 3942, 449 or 52 of 64 nodes; 2698, 326 or 48 of 16.

    Raises:
        InputError: no such list.

    Example:
        >>> from mpnn_arch import graphs
        >>> len(graphs.sample(64, 52))
        52
    """
    return [parameters.make() for parameters in sample_parameters(num_nodes, count)]


def sample_parameters(num_nodes: int, count: int) -> list[WSFlexParameters]:
    """The parameters of the graphs of :func:`sample`.

    Raises:
        InputError: no such list.

    Example:
        >>> from mpnn_arch import graphs
        >>> parameters = graphs.sample_parameters(16, 48)
        >>> len(parameters), parameters[0].num_nodes
        (48, 16)
    """
    check_listed("sample", num_nodes, count)
    shipped = files("mpnn_arch.graphs") / "samples" / f"ws_flex_n{num_nodes}.csv"
    with shipped.open(encoding="utf-8") as file:
        return [
            WSFlexParameters(
                num_nodes,
                float(row["average_degree"]),
                float(row["rewiring_probability"]),
                int(row["seed"]),
            )
            for row in csv.DictReader(file)
            if int(row["smallest_list"]) <= count  # the lists are nested
        ]


def listed_parameters(path: str | Path) -> list[WSFlexParameters]:
    """The parameters of the WS-flex graphs in a CSV file, as ``mpnn-arch graphs sample`` writes it.

    Its columns are ``num_nodes``, ``average_degree`` (or ``density``, its share of the nodes),
    ``rewiring_probability`` and ``seed``; others are passed over.

    Raises:
        InputError: no such file, a column that is missing, a value that is no number, or no row.
    """
    path = check_path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is no CSV file"
        raise InputError(f"{path} holds no list of graphs: {reason}; check the path") from None
    if not rows:
        raise InputError(f"{path} holds no list of graphs: it has no row; give one row per graph")
    degree = "average_degree" if "average_degree" in rows[0] else "density"
    missing = {"num_nodes", degree, "rewiring_probability", "seed"} - rows[0].keys()
    if missing:
        raise InputError(
            f"{path} lists no graphs, as it has no column {sorted(missing)[0]}; give num_nodes, "
            "average_degree, rewiring_probability and seed, as mpnn-arch graphs sample does"
        )
    listed = []
    for line, row in enumerate(rows, start=2):
        try:
            nodes, seed = (parse_whole(row[name] or "") for name in ("num_nodes", "seed"))
            size, p = (parse_number(row[name] or "") for name in (degree, "rewiring_probability"))
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from None
        size = nodes * size if degree == "density" else size
        listed.append(WSFlexParameters(nodes, size, p, seed))
    return listed


def check_listed(source: str, num_nodes: int, count: int) -> None:
    """Refuse a list that does not exist.

    Args:
        source: ``"published"`` or ``"sample"``.
        num_nodes: of each graph.
        count: of the graphs.

    Raises:
        InputError: naming those that exist.
    """
    lists: Mapping[int, Collection[int]] = PUBLISHED if source == "published" else SAMPLES
    kind = "published list" if source == "published" else "sample"
    num_nodes, count = check_whole("num_nodes", num_nodes, 1), check_whole("count", count, 1)
    if count not in lists.get(num_nodes, ()):
        available = "; ".join(
            f"{', '.join(str(c) for c in counts)} of {nodes} nodes"
            for nodes, counts in lists.items()
        )
        raise InputError(
            f"there is no {kind} of {shown(count)} graphs of {shown(num_nodes)} nodes; there are "
            f"{available}"
        )


def _read(path: Path, checksum: str) -> npt.NDArray[np.float64]:
    try:
        if path.suffix == ".npy":
            loaded = np.load(path, allow_pickle=False)
            table = np.concatenate([loaded[:, :4], loaded[:, -2:]], axis=1).astype(np.float64)
        else:
            with path.open(newline="") as file:
                rows = [[float(row[name]) for name in _COLUMNS] for row in csv.DictReader(file)]
            table = np.array(rows, dtype=np.float64)
    except (ValueError, KeyError, TypeError, IndexError, EOFError):
        table = np.zeros((0, 6))  # not a list at all: it fails the checksum
    if hashlib.sha256(table.astype("<f8").tobytes()).hexdigest() != checksum:
        raise InputError(
            f"{path} is not the published list (its checksum differs); delete it, and it will be "
            "fetched again"
        )
    return table
