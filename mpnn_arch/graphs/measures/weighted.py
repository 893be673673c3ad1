"""Weighted measures, for learned graphs: edges have a strength instead of being on or off.

Shapes: B graphs, N nodes; weights (B, N, N) are 0 where there is no edge, row = target.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import as_list
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.arrays import as_real
from mpnn_arch.graphs.measures.batch import Array
from mpnn_arch.registry import Registry

WEIGHTED_MEASURES: Registry[Callable[[Array], Array]] = Registry("weighted measure")


@WEIGHTED_MEASURES.register("strength_mean")
def strength_mean(weights: Array) -> Array:
    """(B,): mean over nodes of the sum of their incoming weights."""
    return weights.sum(axis=2).mean(axis=1)


@WEIGHTED_MEASURES.register("strength_std")
def strength_std(weights: Array) -> Array:
    """(B,): standard deviation over nodes of the sum of their incoming weights."""
    return weights.sum(axis=2).std(axis=1)


@WEIGHTED_MEASURES.register("clustering_coefficient")
def clustering_coefficient(weights: Array) -> Array:
    """(B,): mean over nodes of the geometric mean of the weights around its triangles.

    Weights are divided by the largest of the graph, as in ``networkx.average_clustering`` with a
    weight. For undirected graphs.

    Raises:
        InputError: weights that are not symmetric.

    Source: Onnela, Saramaki, Kertesz, Kaski, Physical Review E 2005.
    """
    if not np.array_equal(weights, weights.transpose(0, 2, 1)):
        raise InputError("weighted clustering takes symmetric weights; average them with their .T")
    largest = weights.max(axis=(1, 2), keepdims=True)
    root = np.cbrt(np.divide(weights, largest, out=np.zeros_like(weights), where=largest > 0))
    around = np.einsum("bij,bji->bi", root @ root, root)
    degree = (weights > 0).sum(axis=2)
    pairs = degree * (degree - 1)
    return np.divide(around, pairs, out=np.zeros(around.shape), where=pairs > 0).mean(axis=1)


@WEIGHTED_MEASURES.register("average_path_length")
def average_path_length(weights: Array) -> Array:
    """(B,): mean over ordered pairs of the shortest path, an edge of weight w being 1 / w long.

    Raises:
        InputError: unreachable pairs.
    """
    distances = _distances(weights)
    if not np.isfinite(distances).all():
        raise InputError(
            "some pairs of nodes are joined by no path of positive weight; keep more edges"
        )
    num_nodes = weights.shape[1]
    return distances.sum(axis=(1, 2)) / (num_nodes * (num_nodes - 1))


@WEIGHTED_MEASURES.register("global_efficiency")
def global_efficiency(weights: Array) -> Array:
    """(B,): mean over ordered pairs of 1 / shortest path, an edge of weight w being 1 / w long."""
    num_nodes = weights.shape[1]
    distances = _distances(weights)
    distances[:, np.arange(num_nodes), np.arange(num_nodes)] = np.inf
    return (1.0 / distances).sum(axis=(1, 2)) / (num_nodes * (num_nodes - 1))


def measure_weighted(weights: npt.ArrayLike, names: list[str]) -> dict[str, Array]:
    """Weighted measures of (N, N) or (B, N, N) weights: name -> (B,) values.

    The diagonal is ignored. Names are those of the unweighted measures, and ``strength_*``.

    Raises:
        InputError: an unknown name, or weights that are negative, not finite or not square.

    Example:
        >>> import numpy as np
        >>> from mpnn_arch import graphs
        >>> weights = np.array([[0, 2, 1], [2, 0, 2], [1, 2, 0]])
        >>> graphs.measure_weighted(weights, ["average_path_length"])
        {'average_path_length': array([0.66666667])}
    """
    array = as_real("weights", weights)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.shape[1] < 2:
        raise InputError(f"weights have shape (B, N, N) with N of 2 or more, not {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InputError("weights are finite and not negative; take absolute values first")
    array[:, np.arange(array.shape[1]), np.arange(array.shape[1])] = 0.0
    return {name: WEIGHTED_MEASURES.get(name)(array) for name in as_list("names", names)}


def _distances(weights: Array) -> Array:
    """Floyd-Warshall over the batch: N passes over (B, N, N)."""
    num_nodes = weights.shape[1]
    length = np.divide(1.0, weights, out=np.full(weights.shape, np.inf), where=weights > 0)
    length[:, np.arange(num_nodes), np.arange(num_nodes)] = 0.0
    for via in range(num_nodes):
        np.minimum(length, length[:, :, via, None] + length[:, None, via, :], out=length)
    return length
