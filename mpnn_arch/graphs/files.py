"""Graphs from files: adjacency matrices, edge lists, GraphML and GEXF."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.arrays import edges_of, edges_of_networkx

Format = Literal["matrix", "edges", "graphml", "gexf"]
BY_SUFFIX: dict[str, Format] = {
    ".txt": "matrix",
    ".csv": "matrix",
    ".tsv": "matrix",
    ".npy": "matrix",
    ".edges": "edges",
    ".edgelist": "edges",
    ".graphml": "graphml",
    ".gexf": "gexf",
}


def read(
    path: Path, format: Format | None = None, directed: bool | None = None
) -> tuple[int, npt.NDArray[np.int64], bool]:
    """The graph in a file: number of nodes, (2, E) source and target, whether it is directed.

    Args:
        path: of the file; see :meth:`RelationalGraph.from_file`.
        format: what the file holds, if its name does not say.
        directed: False for undirected edges; None for what the file holds.

    Raises:
        InputError: no such file, an unknown format, or content that is not a graph.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; check the path")
    kind = format or BY_SUFFIX.get(path.suffix.lower())
    if kind not in set(BY_SUFFIX.values()):
        raise InputError(
            f"{path.name} has an unknown format; name it {', '.join(BY_SUFFIX)}, or pass "
            "format='matrix' or 'edges'"
        )
    try:
        if kind == "matrix":
            matrix = read_matrix(path)
            edges = edges_of(matrix)
            if directed is None:
                directed = bool((matrix != matrix.T).any())
            return len(matrix), edges, directed
        graph = _read_networkx(path, kind, directed)
        return len(graph), edges_of_networkx(graph), graph.is_directed()
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def read_matrix(path: Path) -> npt.NDArray[Any]:
    """The matrix in a ``.npy`` file, or in a text file, with or without separators.

    Raises:
        InputError: not a matrix of numbers.
    """
    if path.suffix.lower() == ".npy":
        try:
            array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"it is not a .npy file of numbers ({error}); save one") from None
        if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            raise InputError(f"it holds {array.dtype}, not numbers; save a matrix of 0 and 1")
        return array
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InputError("it is not text; save a matrix of 0 and 1, one row a line") from None
    rows = [line.replace(",", " ").replace(";", " ").split() for line in lines]
    if all(len(row) == 1 for row in rows) and len(rows) > 1:
        rows = [list(row[0]) for row in rows]  # 0101: digits without separators
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise InputError(
            f"its rows have between {min(widths, default=0)} and {max(widths, default=0)} entries; "
            "an adjacency matrix has N rows of N"
        )
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise InputError(
            f"it contains a value that is not a number ({error}); leave headers out"
        ) from (None)


def _read_networkx(path: Path, kind: str, directed: bool | None) -> Any:
    import networkx as nx

    try:
        if kind == "edges":
            delimiter = "," if "," in path.read_text() else None
            graph = nx.read_edgelist(
                path,
                create_using=nx.DiGraph if directed else nx.Graph,
                delimiter=delimiter,
                data=False,
            )
            try:  # integer nodes in ascending order, named nodes in file order
                order = sorted(graph.nodes, key=int)
            except ValueError:
                order = list(graph.nodes)
            ordered = graph.__class__()
            ordered.add_nodes_from(order)
            ordered.add_edges_from(graph.edges)
            graph = ordered
        else:
            graph = nx.read_graphml(path) if kind == "graphml" else nx.read_gexf(path)
    except Exception as error:  # three parsers, each with its own exceptions
        raise InputError(f"it cannot be read as {kind} ({error}); check its content") from None
    if not len(graph):
        raise InputError("it contains no nodes; save a graph with at least one")
    if directed is False and graph.is_directed():
        graph = graph.to_undirected()
    return graph
