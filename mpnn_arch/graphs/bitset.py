"""Exact counts on graphs whose adjacency rows are 64-bit words.

A row of N nodes is W = ceil(N / 64) words, node j being bit j % 64 of word j // 64. The bitwise
``and`` of two rows gives the nodes they share, and its bit count their number. Counts are integers,
so measures computed from them are exact to the last bit. Every function takes a batch of graphs of
equal size, processes it in blocks of bounded memory, and needs only numpy.

Shapes: B graphs, N nodes, W words per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_bytes

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]

# The largest (b, rows, N) intermediate, in elements: 2**18 words of 8 bytes stay in a core's cache.
_BLOCK = 1 << 18
# From this many nodes on it is worth asking whether a graph is sparse.
LARGE = 512


def pack(adjacency: npt.NDArray[Any]) -> Words:
    """(..., N, N) of 0 and 1 to (..., N, W) words."""
    *lead, _, num_nodes = adjacency.shape
    num_words = -(-num_nodes // 64)
    octets = np.zeros((*lead, adjacency.shape[-2], num_words * 8), dtype=np.uint8)
    octets[..., : -(-num_nodes // 8)] = np.packbits(adjacency, axis=-1, bitorder="little")
    return octets.view("<u8").astype(np.uint64, copy=False)


def of_edges(num_nodes: int, graphs: Sequence[npt.NDArray[np.int64]]) -> Words:
    """B times (2, E) source and target, sorted by target and then by source, to (B, N, W) words.

    Raises:
        InputError: the words are more than there is memory for.
    """
    num_words = -(-num_nodes // 64)
    check_pairs(num_nodes, "the adjacency in bits", len(graphs) / 8)
    if num_nodes < LARGE:
        matrix = np.zeros((len(graphs), num_nodes, num_nodes), dtype=bool)
        for one, (source, target) in zip(matrix, graphs, strict=True):
            one[target, source] = True
        return pack(matrix)
    words = np.zeros((len(graphs), num_nodes * num_words), dtype=np.uint64)
    for row, (source, target) in zip(words, graphs, strict=True):
        place, bit = np.divmod(source, 64)
        place += target * num_words
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        if len(starts):
            bits = np.uint64(1) << bit.astype(np.uint64)
            row[place[starts]] = np.bitwise_or.reduceat(bits, starts)
    return words.reshape(len(graphs), num_nodes, num_words)


def check_pairs(num_nodes: int, what: str, bytes_per_pair: float) -> None:
    """Refuse what needs an entry for each pair of nodes where there is no memory for it.

    Args:
        num_nodes: N.
        what: needs the entries, for the message.
        bytes_per_pair: of all its (N, N) arrays together.

    Raises:
        InputError: N^2 such entries are more than there is memory for.
    """
    check_bytes(
        f"{what} of {num_nodes:,} nodes",
        int(num_nodes**2 * bytes_per_pair),
        "measure degree_mean, degree_std, degree_min, degree_max, degree_entropy or density, or a "
        "graph of fewer nodes",
    )


def unpack(words: Words, num_nodes: int) -> npt.NDArray[np.bool_]:
    """(..., N, W) words to (..., N, num_nodes) bool."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, count=num_nodes, bitorder="little")
    return bits.view(np.bool_)


def sizes(words: Words) -> Counts:
    """(..., N, W) to (..., N): the number of nodes in each row."""
    return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)


def with_loops(words: Words) -> Words:
    """The same graphs with a self-loop on every node."""
    return words | _diagonal(words)


def without_loops(words: Words) -> Words:
    """The same graphs without self-loops."""
    return words & ~_diagonal(words)


def transpose(words: Words) -> Words:
    """(B, N, W): the graphs with every edge reversed."""
    num_nodes = words.shape[-2]
    return pack(np.swapaxes(unpack(words, num_nodes), -1, -2))


def triangles(words: Words) -> Counts:
    """(B, N, W) undirected, no self-loops, to (B, N): links among neighbours, each counted twice.

    Entry i sums, over the neighbours j of i, the number of neighbours that i and j share: (A^3)_ii.
    """
    batch, num_nodes, num_words = words.shape
    found = np.zeros((batch, num_nodes), dtype=np.int64)
    if num_nodes >= LARGE and all(_is_sparse(one) for one in words):
        for one, closed in zip(words, found, strict=True):
            neighbours = _Neighbours(one)
            for nodes, target, source, starts in neighbours.blocks():
                closed[nodes] = np.add.reduceat(sizes(one[target] & one[source]), starts)
        return found
    for graphs, rows in _blocks(batch, num_nodes):
        shared: Any = 0
        for w in range(num_words):
            mine, theirs = words[graphs, rows, None, w], words[graphs, None, :, w]
            shared = shared + np.bitwise_count(mine & theirs).astype(np.uint16)
        linked = unpack(words[graphs, rows], num_nodes)
        found[graphs, rows] = (shared * linked).sum(axis=-1, dtype=np.int64)
    return found


def distance_sums(into: Words, out_of: Words | None = None) -> tuple[Counts, Counts]:
    """Sum of the lengths of all shortest paths, and the number of ordered pairs they join.

    Args:
        into: (B, N, W), the bits of row i are the nodes with an edge to i.
        out_of: (B, N, W), the bits of row i are the nodes that i has an edge to; ``into`` itself
            (None) if the graphs are undirected.

    Returns:
        Two (B,) integer arrays. A connected graph has N (N - 1) joined pairs.
    """
    batch = into.shape[0]
    total, joined = np.zeros(batch, dtype=np.int64), np.zeros(batch, dtype=np.int64)
    for place, step, before, after in _steps(into, out_of):
        found = sizes(after).sum(axis=-1) - sizes(before).sum(axis=-1)
        total[place] += step * found
        joined[place] += found
    return total, joined


def inverse_distance_sums(into: Words, out_of: Words | None = None) -> npt.NDArray[np.float64]:
    """(B,): the sum of 1 / distance over the ordered pairs that a path joins.

    The arguments are those of :func:`distance_sums`.
    """
    total = np.zeros(into.shape[0])
    for place, step, before, after in _steps(into, out_of):
        total[place] += (sizes(after).sum(axis=-1) - sizes(before).sum(axis=-1)) / step
    return total


def distances(into: Words, out_of: Words | None = None) -> Distances:
    """Lengths of all shortest paths, with the arguments of :func:`distance_sums`.

    Returns:
        (B, N, N), entry (i, j) the number of edges on the shortest path from node j to node i; -1
        where there is none.
    """
    batch, num_nodes, _ = into.shape
    check_pairs(num_nodes, "the distances", 4 * batch)
    length = np.full((batch, num_nodes, num_nodes), -1, dtype=np.int32)
    length[:, np.arange(num_nodes), np.arange(num_nodes)] = 0
    for place, step, before, after in _steps(into, out_of):
        graph, target, source = np.nonzero(unpack(after & ~before, num_nodes))
        length[place[graph], target, source] = step
    return length


def _steps(into: Words, out_of: Words | None) -> Iterator[tuple[Counts, int, Words, Words]]:
    """Breadth-first search from all nodes at once, one step per item.

    Yields the indices of the graphs that still reach new nodes, the step, and their rows of nodes
    within step - 1 edges and within step edges.
    """
    batch, num_nodes, _ = into.shape
    for graphs in _chunks(batch, max(1, _BLOCK // num_nodes**2)):
        after = with_loops(into[graphs])
        onward = after if out_of is None else with_loops(out_of[graphs])
        before = with_loops(np.zeros_like(after))
        is_one = len(after) == 1 and num_nodes >= LARGE and _is_sparse(after[0])
        near = _Neighbours(after[0]) if is_one else None
        place, step = np.arange(batch)[graphs], 1
        yield place, step, before, after
        while True:
            reach, known = sizes(after).sum(axis=-1), sizes(before).sum(axis=-1)
            growing = (reach < num_nodes**2) & (reach > known)
            if not growing.any():
                break
            if not growing.all():
                place, onward, after = place[growing], onward[growing], after[growing]
            before, after, step = after, _one_step_further(after, onward, near), step + 1
            yield place, step, before, after


def is_connected(words: Words) -> npt.NDArray[np.bool_]:
    """(B, N, W) undirected to (B,): whether every node reaches every other."""
    num_nodes = words.shape[-2]
    words = with_loops(words)
    reached, known = words[:, :1], 0
    while (found := int(np.bitwise_count(reached).sum())) > known:
        known = found
        rows = unpack(reached, num_nodes)[:, 0, :, None]
        reached = np.bitwise_or.reduce(np.where(rows, words, np.uint64(0)), axis=1)[:, None]
    return np.bitwise_count(reached).sum(axis=(1, 2)) == num_nodes


def _one_step_further(reached: Words, onward: Words, near: _Neighbours | None) -> Words:
    """Row i of the result contains u if u has an edge to a node of row i of ``reached``.

    ``near``, the in-neighbours of each node and itself, are given where there is one large and
    sparse graph: who reaches i in one step more is who reaches one of them.
    """
    batch, num_nodes, num_words = reached.shape
    wider = np.empty_like(reached)
    if near is not None:
        for nodes, _, source, starts in near.blocks():
            wider[0, nodes] = np.bitwise_or.reduceat(reached[0, source], starts, axis=0)
        return wider
    for graphs, rows in _blocks(batch, num_nodes):
        hit: Any = False
        for w in range(num_words):
            hit = hit | ((reached[graphs, rows, None, w] & onward[graphs, None, :, w]) != 0)
        wider[graphs, rows] = pack(hit)
    return wider


def _is_sparse(words: Words) -> bool:
    """Whether going along the edges of this graph is cheaper than comparing all its rows."""
    return bool(8 * sizes(words).sum() < len(words) ** 2)


class _Neighbours:
    """The neighbours of each node of a sparse graph, node after node, from (N, W) rows."""

    def __init__(self, words: Words) -> None:
        num_nodes, num_words = words.shape
        found = [
            np.nonzero(unpack(words[rows], num_nodes))[1]
            for rows in _chunks(num_nodes, max(1, 64 * _BLOCK // num_nodes))
        ]
        self._source = np.concatenate(found)
        self._degree = sizes(words)
        self._end = np.cumsum(self._degree)
        self._edges_at_once = max(1, _BLOCK // num_words)

    def blocks(self) -> Iterator[tuple[Counts, Counts, Counts, Counts]]:
        """Nodes that have neighbours, in blocks of bounded memory.

        Yields the nodes; of each edge its target (one of the nodes) and its source; and the place
        of each node's first edge among these.
        """
        first, done, last = 0, 0, len(self._end)
        while first < last:
            room = int(np.searchsorted(self._end, done + self._edges_at_once, side="right"))
            stop = min(last, max(first + 1, room))
            degree = self._degree[first:stop]
            nodes = first + np.flatnonzero(degree)
            if len(nodes):
                starts = (self._end[nodes] - self._degree[nodes]) - done
                source = self._source[done : self._end[stop - 1]]
                yield nodes, np.repeat(np.arange(first, stop), degree), source, starts
            first, done = stop, int(self._end[stop - 1])


def _diagonal(words: Words) -> Words:
    num_nodes, num_words = words.shape[-2:]
    node = np.arange(num_nodes)
    diagonal = np.zeros((num_nodes, num_words), dtype=np.uint64)
    diagonal[node, node // 64] = np.uint64(1) << (node % 64).astype(np.uint64)
    return diagonal


def _chunks(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _blocks(batch: int, num_nodes: int) -> Iterator[tuple[slice, slice]]:
    """Slices of graphs and of rows whose (b, rows, N) product stays within one block."""
    rows_at_once = max(1, min(num_nodes, _BLOCK // num_nodes))
    for graphs in _chunks(batch, max(1, _BLOCK // num_nodes**2)):
        for rows in _chunks(num_nodes, rows_at_once):
            yield graphs, rows
