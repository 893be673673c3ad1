"""Graphs from files: adjacency matrices, edge lists, GraphML and GEXF.

Matrices and edge lists are read as a stream, so that memory grows with the edges and not with the
size of the file.
"""

from __future__ import annotations

import csv
import re
import warnings
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_bytes, parse_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.arrays import (
    Edges,
    check_square,
    edges_of_networkx,
    is_symmetric,
    refused_entry,
    sorted_edges,
)


class _NoNumberError(InputError):
    """A text file of a matrix has a word in it, as lists of edges between named nodes have."""


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

# Entries of a .npy matrix that are examined at a time.
_ENTRIES = 1 << 24
# Characters of the longest line: a row of 16 million nodes.
_LONGEST_LINE = 1 << 25
# Bytes of a GraphML or GEXF file for each byte of memory that its tree of elements takes.
_TREE = 20


def read(
    path: Path, format: Format | None = None, directed: bool | None = None
) -> tuple[int, Edges, bool]:
    """The graph in a file: number of nodes, (2, E) source and target, whether it is directed.

    Args:
        path: of the file; see :meth:`RelationalGraph.from_file`.
        format: what the file holds, if its name does not say.
        directed: False for undirected edges; None for what the file holds.

    Raises:
        InputError: no such file, an unknown format, or content that is not a graph.
    """
    if path.name == "":
        raise InputError(f"{path} is a folder; name a file")
    kind = BY_SUFFIX.get(path.suffix.lower()) if format is None else format
    if not isinstance(kind, str) or kind not in set(BY_SUFFIX.values()):
        raise InputError(
            f"{shown(path.name)[1:-1]} has an unknown format; name it {', '.join(BY_SUFFIX)}, or "
            "in Python pass format='matrix' or 'edges'"
        )
    try:
        if not path.is_file():
            if path.is_dir():
                raise InputError(f"{path} is a folder; name a file")
            raise InputError(f"there is no file {shown(str(path))[1:-1]}; check the path")
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise InputError(f"{shown(str(path))} cannot be read: {error.strerror}") from None
    try:
        if format is None and kind == "matrix" and _is_edge_list(path):
            kind = "edges"
        if kind == "matrix":
            try:
                num_nodes, edges = _matrix_edges(path)
            except _NoNumberError:  # says what to do with a list of edges
                raise
            except InputError as error:
                if format is not None or not _has_three_columns(path):
                    raise
                raise InputError(f"{error}, or name a list of edges with weights .edges") from None
            if directed is None:
                in_order = sorted_edges(num_nodes, edges, reverse=False, self_loops=False)
                directed = not is_symmetric(num_nodes, in_order)
            return num_nodes, edges, directed
        if kind == "edges":
            num_nodes, edges = _read_edges(path)
            return num_nodes, edges, bool(directed)
        graph = _read_networkx(path, kind, directed)
        return len(graph), edges_of_networkx(graph), graph.is_directed()
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}") from None


def read_matrix(path: Path) -> npt.NDArray[Any]:
    """The matrix in a ``.npy`` file, or in a text file, with or without separators.

    Raises:
        InputError: not a matrix of numbers.
    """
    if path.suffix.lower() == ".npy":
        return np.array(_open_npy(path))
    return np.array(list(_rows(path)))


def _is_edge_list(path: Path) -> bool:
    """Whether a text file holds two columns that can be a list of edges and no matrix.

    Three rows or more of two whole numbers, not all of them 0 or 1; ``#`` begins a comment.
    """
    if path.suffix.lower() == ".npy":
        return False
    rows, others = 0, False
    for _, line in _lines(path):
        pair = _split(line.partition("#")[0])
        if not pair:
            continue
        if len(pair) != 2 or not all(map(_is_integer, pair)):
            return False
        rows, others = rows + 1, others or not set(pair) <= {"0", "1"}
        if rows > 2 and others:
            return True
    return False


def _has_three_columns(path: Path) -> bool:
    return path.suffix.lower() != ".npy" and len(_split(next(_lines(path), (0, ""))[1])) == 3


def _matrix_edges(path: Path) -> tuple[int, Edges]:
    """Number of nodes, and (2, E) source and target of the entries that are 1."""
    if path.suffix.lower() == ".npy":
        matrix = _open_npy(path)
        check_square(matrix.shape, matrix.dtype)
        num_nodes = len(matrix)
        at_once = max(1, _ENTRIES // max(1, num_nodes))
        blocks: Iterator[npt.NDArray[Any]] = (
            np.asarray(matrix[start : start + at_once]) for start in range(0, num_nodes, at_once)
        )
        return num_nodes, _ones(blocks)
    rows = _rows(path)
    first = next(rows)

    def counted() -> Iterator[npt.NDArray[Any]]:
        yield first[None]
        number = 1
        for row in rows:
            number += 1
            if number > len(first):
                raise InputError(
                    f"it has more than {len(first)} rows of {len(first)} entries; an adjacency "
                    "matrix is square, N rows of N"
                )
            yield row[None]
        if number < len(first):
            raise InputError(
                f"it has {number} rows of {len(first)} entries; an adjacency matrix is square, "
                "N rows of N"
            )

    return len(first), _ones(counted())


def _ones(blocks: Iterator[npt.NDArray[Any]]) -> Edges:
    """(2, E) source and target of the ones in blocks of rows."""
    targets, sources, start = [], [], 0
    for block in blocks:
        wrong = block[(block != 0) & (block != 1)]
        if wrong.size:
            raise refused_entry(wrong.flat[0])
        target, source = np.nonzero(block)
        targets.append(target + start)
        sources.append(source)
        start += len(block)
    if not start:
        raise InputError("it contains no nodes; save a graph with at least one")
    return np.stack([np.concatenate(sources), np.concatenate(targets)])


def _open_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file, mapped: nothing is read or allocated yet."""
    try:
        loaded: Any = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # a header may be wrong in many ways
        raise InputError(
            f"it is not a .npy file of numbers ({_one_line(error)}); save one"
        ) from None
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise InputError("it is a .npz archive, not a .npy file; save one array with numpy.save")
    if loaded.dtype.kind not in "biuf":
        raise InputError(f"it holds {loaded.dtype}, not numbers; save a matrix of 0 and 1")
    return loaded


def _rows(path: Path) -> Iterator[npt.NDArray[Any]]:
    """The rows of a matrix in a text file, all of the same length."""
    width, without_separators = None, False
    for number, line in _lines(path):
        if width is None:
            without_separators = len(line) > 1 and line.isascii() and line.isdigit()
        digits = np.frombuffer(line.encode(), dtype=np.uint8)
        # 0,1,0 and 010 without a call for each entry, for files of gigabytes.
        entries = digits if without_separators else digits[::2]
        plain = ((entries == 48) | (entries == 49)).all()
        if plain and not without_separators and len(digits) % 2:
            between = digits[1::2]
            plain = bool(np.isin(between, (9, 32, 44, 59)).all())
        if plain and (without_separators or len(digits) % 2):
            row: npt.NDArray[Any] = entries - np.uint8(48)
        else:
            row = _row(list(line) if without_separators else _split(line), number)
        if width not in (None, len(row)):
            raise InputError(
                f"its rows have between {min(width or 0, len(row))} and "
                f"{max(width or 0, len(row))} entries (line {number} has {len(row)}); an adjacency "
                "matrix has N rows of N"
            )
        width = len(row)
        yield row
    if width is None:
        raise InputError("it is empty: save a matrix of 0 and 1, one row a line")


def _split(line: str) -> list[str]:
    return line.replace(",", " ").replace(";", " ").split()


def _row(entries: list[str], number: int) -> npt.NDArray[np.float64]:
    try:
        if any("_" in entry or not entry.isascii() for entry in entries):
            raise ValueError("write numbers in ASCII digits")
        return np.array(entries, dtype=np.float64)
    except ValueError as error:
        raise _NoNumberError(
            f"line {number} contains a value that is not a number ({_one_line(error)}); leave "
            "headers out, or name a list of edges .edges (in Python, pass format='edges')"
        ) from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank; a byte order mark is left out."""
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        while True:
            try:
                line = file.readline(_LONGEST_LINE)
            except UnicodeDecodeError:
                raise InputError("it is not text in UTF-8; save it as such") from None
            if not line:
                return
            number += 1
            if len(line) == _LONGEST_LINE:
                raise InputError(
                    f"line {number} is longer than {_LONGEST_LINE:,} characters; save a smaller "
                    "matrix, or a list of edges"
                )
            if stripped := line.strip():
                yield number, stripped


def _columns(line: str) -> list[str]:
    """The columns of an edge list's line, quoted ones without their quotes.

    They are separated by the first of comma, semicolon and tab that the line has outside quotes,
    else by blanks: spreadsheet programs write any of them, and names may contain the others.
    Attributes in braces, as networkx writes them, are left out.
    """
    line = re.sub(r"\s\{.*\}$", "", line)
    outside = re.sub(r'"[^"]*"', "", line)
    separator = next((one for one in ",;\t" if one in outside), " ")
    columns = line.split(separator)
    if '"' in line:
        with suppress(csv.Error):  # a field of more than 131,072 characters
            columns = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    columns = [column.strip() for column in columns]
    if separator in ",;":
        return columns  # an empty one is a node that is missing
    columns = [column for column in columns if column]
    return columns if len(columns) > 1 else line.split()


def _read_edges(path: Path) -> tuple[int, Edges]:
    """Number of nodes, and (2, E): integer nodes in ascending order, named ones in file order."""
    ends = _integer_ends(path)
    if ends is None:
        named = _named_ends(path)
        try:
            numbers = array("q", map(parse_whole, named))
        except InputError:
            order = {name: i for i, name in enumerate(dict.fromkeys(named))}
            return len(order), _pairs(array("q", (order[name] for name in named)))
        ends = _pairs(numbers)
    nodes, number = np.unique(ends, return_inverse=True)
    return len(nodes), number.reshape(ends.shape).astype(np.int64, copy=False)


def _pairs(ends: array[int]) -> Edges:
    return np.frombuffer(ends, dtype=np.int64).reshape(-1, 2).T


def _integer_ends(path: Path) -> Edges | None:
    """(2, E), read by numpy; None if the file holds anything but pairs of integers."""
    first = next(_lines(path), (0, ""))[1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read: npt.NDArray[np.int64] = np.loadtxt(
                path,
                dtype=np.int64,
                delimiter=next((one for one in ",;" if one in first), None),
                encoding="utf-8-sig",
                ndmin=2,
            )
    except (ValueError, Warning):  # names, floats, a comment or nothing: read line by line
        return None
    return read.T if read.shape[1] == 2 and len(read) else None


def _named_ends(path: Path) -> list[str]:
    """Source, target, source, target, ... of the lines, without comments."""
    ends: list[str] = []
    header = None
    for number, line in _lines(path):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        parts = _columns(line)
        if len(parts) < 2 or not parts[0] or not parts[1]:
            raise InputError(
                f"line {number} has {len(parts)} column{'s' * (len(parts) != 1)} ({shown(line)}); "
                "an edge list has two nodes per line"
            )
        if not ends and not any(_is_integer(part) for part in parts[:2]):
            header = line
        ends += parts[:2]
    if not ends:
        raise InputError("it contains no nodes; write two per line")
    if header and len(ends) > 2 and all(map(_is_integer, ends[2:])):
        raise InputError(f"its first line is a header ({shown(header)}); leave it out")
    return ends


def _is_integer(text: str) -> bool:
    return text.lstrip("+-").isdigit()


def _read_networkx(path: Path, kind: str, directed: bool | None) -> Any:
    import networkx as nx

    check_bytes("the tree of its elements", _TREE * path.stat().st_size, "save an edge list")
    try:
        graph = _only_graphml(path) if kind == "graphml" else nx.read_gexf(path)
    except InputError:
        raise
    except Exception as error:  # two parsers, each with its own exceptions
        raise InputError(
            f"it cannot be read as {kind} ({_one_line(error)}); check its content"
        ) from None
    if not len(graph):
        raise InputError("it contains no nodes; save a graph with at least one")
    if directed is False and graph.is_directed():
        graph = graph.to_undirected()
    return graph


def _only_graphml(path: Path) -> Any:
    """The graph of a GraphML file, of which ``networkx.read_graphml`` returns the first."""
    import networkx as nx

    graphs = list(nx.GraphMLReader()(path=path))
    if len(graphs) > 1:
        raise InputError(f"it contains {len(graphs)} graphs; save each in a file of its own")
    # Without a namespace there is none yet, and `read_graphml` supplies it.
    return graphs[0] if graphs else nx.read_graphml(path)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
