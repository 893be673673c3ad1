"""Edge indices and adjacency matrices as checked numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_bytes, shown
from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    import torch

Edges = npt.NDArray[np.int64]


def as_array(values: torch.Tensor | npt.ArrayLike) -> npt.NDArray[Any]:
    """A tensor or nested list as a numpy array.

    Raises:
        InputError: rows of unequal length, or a tensor that numpy cannot represent.
    """
    detach = getattr(values, "detach", None)
    if str(getattr(values, "dtype", "")) == "torch.bfloat16":  # which numpy does not have
        values = values.float()  # type: ignore[union-attr]
        detach = values.detach
    try:
        return np.asarray(detach().cpu().numpy() if detach is not None else values)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"{shown(values)} is not an array of numbers ({error}); give rows of equal length"
        ) from None


def as_real(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A number or nested list of real numbers as a float64 array.

    Raises:
        InputError: text, complex numbers, or rows of unequal length.
    """
    array = as_array(values)
    if array.size and array.dtype.kind not in ("biuf" if array.ndim else "iuf"):
        raise InputError(f"{name} holds numbers, not {shown(values)}; give numbers")
    return array.astype(np.float64)


def as_edges(edge_index: torch.Tensor | npt.ArrayLike | Sequence[Any]) -> Edges:
    """An edge index as (2, E) int64, row 0 source, row 1 target.

    Raises:
        InputError: another shape, or other than integers.
    """
    array = as_array(edge_index)
    if array.size == 0 and array.ndim in (1, 2):
        return np.zeros((2, 0), dtype=np.int64)
    if array.ndim != 2 or array.shape[0] != 2:
        given = f"this one has {array.shape}" if array.ndim else f"not {shown(edge_index)}"
        raise InputError(f"an edge index has shape (2, E), {given}; transpose a list of pairs")
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"an edge index holds integers, this one holds {array.dtype}; convert it")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"the edge index names node {array.max()}; number the nodes from 0")
    return array.astype(np.int64)


def check_ends(num_nodes: int, edges: Edges) -> None:
    """Refuse edges whose ends are not nodes 0 .. ``num_nodes`` - 1.

    Raises:
        InputError: naming the node.
    """
    if edges.size and (edges.min() < 0 or edges.max() >= num_nodes):
        worst = int(edges.min() if edges.min() < 0 else edges.max())
        raise InputError(
            f"the edge index names node {worst}, but a graph of {num_nodes} nodes has nodes "
            f"0 to {num_nodes - 1}: number the nodes from 0, or give a larger num_nodes"
        )


def sorted_edges(num_nodes: int, edges: Edges, *, reverse: bool, self_loops: bool) -> Edges:
    """``edges`` sorted by target and then by source, each once; needs no N x N matrix.

    An edge is the integer target * N + source, and the edges are these integers in order.

    Args:
        num_nodes: N.
        edges: (2, E), row 0 source, row 1 target, in any order, also repeated.
        reverse: whether to add the reverse of every edge.
        self_loops: whether to add a self-loop to every node.

    Raises:
        InputError: more edges than there is memory for.
    """
    given = edges.shape[1] * (2 if reverse else 1) + (num_nodes if self_loops else 0)
    # Each edge as an integer, as that integer sorted, and as two nodes.
    check_bytes(f"a graph of {num_nodes:,} nodes and {given:,} edges", 40 * given, "give fewer")
    source, target = edges
    parts = [target * num_nodes + source]
    if reverse:
        parts.append(source * num_nodes + target)
    if self_loops:
        parts.append(np.arange(num_nodes) * (num_nodes + 1))
    keys = np.concatenate(parts)
    keys.sort()
    is_first = np.empty(len(keys), dtype=bool)
    is_first[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    keys = keys[is_first]
    found = np.empty((2, len(keys)), dtype=np.int64)
    np.divmod(keys, num_nodes, out=(found[1], found[0]))
    return found


def is_symmetric(num_nodes: int, edges: Edges) -> bool:
    """Whether the reverse of each of these edges, as :func:`sorted_edges` returns them, is one."""
    source, target = edges
    backward = source * num_nodes + target
    backward.sort()
    return bool(np.array_equal(backward, target * num_nodes + source))


def edges_of(adjacency: npt.NDArray[Any]) -> Edges:
    """(N, N) of 0 and 1, row = target, column = source, to (2, E): source and target.

    Raises:
        InputError: not square, or an entry other than 0 and 1.
    """
    check_square(adjacency.shape, adjacency.dtype)
    wrong = adjacency[(adjacency != 0) & (adjacency != 1)]
    if wrong.size:
        raise refused_entry(wrong.flat[0])
    target, source = np.nonzero(adjacency)
    return np.stack([source, target])


def is_sparse(matrix: Any) -> bool:
    """Whether it is a sparse matrix of scipy or a sparse tensor of torch."""
    return hasattr(matrix, "tocoo") or str(getattr(matrix, "layout", "")).startswith("torch.sparse")


def edges_of_sparse(adjacency: Any) -> tuple[int, Edges]:
    """N and (2, E) source and target of a sparse matrix, without its dense form.

    Raises:
        InputError: not square, or an entry other than 0 and 1.
    """
    if hasattr(adjacency, "tocoo"):
        coo = adjacency.tocoo(copy=True)
        coo.sum_duplicates()
        target, source, entries = coo.row, coo.col, coo.data
    else:
        coo = adjacency.detach().cpu().to_sparse_coo().coalesce()
        target, source = coo.indices().numpy() if coo.dim() == 2 else (None, None)
        entries = as_array(coo.values())
    check_square(tuple(coo.shape), entries.dtype)
    wrong = entries[(entries != 0) & (entries != 1)]
    if wrong.size:
        raise refused_entry(wrong[0])
    edges = np.stack([source, target]).astype(np.int64)
    return coo.shape[0], edges[:, entries != 0]


def check_square(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what is no matrix of real numbers, as many rows as columns.

    Raises:
        InputError: another shape, or text, objects or complex numbers.
    """
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(f"an adjacency matrix is square, this one has shape {shape}; give (N, N)")
    if dtype.kind not in "biuf":
        raise InputError(f"an adjacency matrix holds 0 and 1, this one holds {dtype}; convert it")


def refused_entry(entry: Any) -> InputError:
    """The error for an entry of an adjacency matrix that is neither 0 nor 1."""
    return InputError(
        f"an adjacency matrix holds 0 and 1, this one holds {entry}; threshold a weighted matrix "
        "first"
    )


def edges_of_networkx(graph: Any) -> Edges:
    """(2, E) source and target of a networkx graph, nodes numbered in its own order."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    pairs = [(number[u], number[v]) for u, v in graph.edges()]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
