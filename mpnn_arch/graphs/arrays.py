"""Edge indices and adjacency matrices as checked numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.errors import InputError

if TYPE_CHECKING:
    import torch


def as_array(values: torch.Tensor | npt.ArrayLike) -> npt.NDArray[Any]:
    """A tensor or nested list as a numpy array."""
    detach = getattr(values, "detach", None)
    return np.asarray(detach().cpu().numpy() if detach is not None else values)


def as_edges(edge_index: torch.Tensor | npt.ArrayLike | Sequence[Any]) -> npt.NDArray[np.int64]:
    """An edge index as (2, E) int64, row 0 source, row 1 target.

    Raises:
        InputError: another shape, or other than integers.
    """
    array = as_array(edge_index)
    if array.size == 0:
        return np.zeros((2, 0), dtype=np.int64)
    if array.ndim != 2 or array.shape[0] != 2:
        raise InputError(
            f"an edge index has shape (2, E), this one has {array.shape}; transpose a list of pairs"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"an edge index holds integers, this one holds {array.dtype}; convert it")
    return array.astype(np.int64)


def edges_of(adjacency: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(N, N) of 0 and 1, row = target, column = source, to (2, E): source and target.

    Raises:
        InputError: not square, or an entry other than 0 and 1.
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise InputError(
            f"an adjacency matrix is square, this one has shape {adjacency.shape}; give (N, N)"
        )
    wrong = adjacency[(adjacency != 0) & (adjacency != 1)]
    if wrong.size:
        raise InputError(
            f"an adjacency matrix holds 0 and 1, this one holds {wrong.flat[0]}; "
            "threshold a weighted matrix first"
        )
    target, source = np.nonzero(adjacency)
    return np.stack([source, target])


def edges_of_networkx(graph: Any) -> npt.NDArray[np.int64]:
    """(2, E) source and target of a networkx graph, nodes numbered in its own order."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    pairs = [(number[u], number[v]) for u, v in graph.edges()]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
