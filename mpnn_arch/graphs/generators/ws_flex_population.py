"""Populations of WS-flex graphs, rewired at once: same distribution, another random stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_bytes, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset
from mpnn_arch.graphs.arrays import as_real
from mpnn_arch.graphs.generators.connected import TRIES
from mpnn_arch.graphs.generators.ws_flex import check_ws_flex

# Entries of the adjacencies processed at a time: 4,096 graphs of 64 nodes, 16 MiB.
_ENTRIES = 1 << 24


def ws_flex_population(
    num_nodes: int,
    average_degree: npt.ArrayLike,
    rewiring_probability: npt.ArrayLike,
    seed: int = 0,
) -> bitset.Words:
    """Many graphs with the distribution of :func:`ws_flex`; measure ``GraphBatch(words)``.

    Random numbers come from ``numpy.random.default_rng(seed)``, not from the paper's stream, so a
    graph differs from ``ws_flex`` with the same parameters; only the distribution is the same. The
    new end of an edge is drawn from a list of the nodes that node i is not linked to, and the old
    end replaces it in that list, which is equivalent to drawing until a free node is found.

    Args:
        num_nodes: N.
        average_degree: (B,) or one number, each in [2, N - 1].
        rewiring_probability: (B,) or one number, each in [0, 1].
        seed: of the random stream; the same seed and lists give the same graphs.

    Returns:
        (B, N, W) words, see ``graphs.bitset``.

    Raises:
        InputError: a value outside its range, lists of different lengths, or a graph that is not
            connected in 100 tries.

    Example:
        >>> import numpy as np
        >>> from mpnn_arch import graphs
        >>> words = graphs.ws_flex_population(64, np.linspace(4, 12, 5), 0.1, seed=0)
        >>> graphs.GraphBatch(words).degrees.mean(axis=1)
        array([ 4.,  6.,  8., 10., 12.])
    """
    try:
        degree, p = np.broadcast_arrays(
            np.atleast_1d(as_real("average_degree", average_degree)),
            np.atleast_1d(as_real("rewiring_probability", rewiring_probability)),
        )
    except InputError:
        raise
    except ValueError:
        raise InputError(
            "average_degree and rewiring_probability are numbers or lists of equal length, but "
            f"their shapes are {np.shape(average_degree)} and {np.shape(rewiring_probability)}"
        ) from None
    if degree.ndim != 1 or not degree.size:
        raise InputError(f"parameters of a population have shape (B,), not {degree.shape}")
    for values in (degree, p):  # minimum and maximum are checked below; they miss NaN
        if np.isnan(values).any():
            raise InputError("a parameter of the population is not a number; leave it out")
    num_nodes, _, _ = check_ws_flex(num_nodes, degree.min(), p.min())
    check_ws_flex(num_nodes, degree.max(), p.max())
    stream = np.random.default_rng(check_whole("seed", seed, 0))

    # Half to even, as Python's round, so that the edge counts equal those of ws_flex.
    num_edges = np.rint(num_nodes * degree / 2).astype(np.int64)
    check_bytes(
        f"a population of {degree.size:,} graphs of {num_nodes:,} nodes",
        num_nodes * (degree.size * -(-num_nodes // 64) * 8 + 6 * num_nodes),
        "ask for fewer, or use ws_flex for one large graph",
    )
    words = np.empty((degree.size, num_nodes, -(-num_nodes // 64)), dtype=np.uint64)
    at_once = max(1, _ENTRIES // num_nodes**2)
    for start in range(0, degree.size, at_once):
        waiting = np.arange(start, min(start + at_once, degree.size))
        for _ in range(TRIES):
            drawn = _rewired(num_nodes, num_edges[waiting], p[waiting], stream)
            words[waiting] = drawn
            waiting = waiting[~bitset.is_connected(drawn)]
            if not waiting.size:
                break
        else:
            raise InputError(
                f"{waiting.size} graphs of the population were not connected in {TRIES} tries, the "
                f"first of average_degree {degree[waiting[0]]:g}; raise the degree"
            )
    return words


def _rewired(
    num_nodes: int, num_edges: npt.NDArray[Any], p: npt.NDArray[Any], stream: np.random.Generator
) -> bitset.Words:
    """(B, N, W): rings with these numbers of edges, rewired once, connected or not."""
    batch = len(num_edges)
    node = np.arange(num_nodes)
    share, larger = np.divmod(num_edges[:, None], num_nodes)
    shares = (share + (node < larger)).astype(np.int16)  # (B, N)
    ahead = ((node - node[:, None]) % num_nodes).astype(np.int16)  # from row to column
    lattice = (ahead <= shares[:, :, None]) | (shares[:, None, :] >= ahead.T)
    words = bitset.without_loops(bitset.pack(lattice))
    del lattice
    # Graphs lie along the last axis, so that the rows of one node in all graphs fit the cache.
    linked = np.ascontiguousarray(words.transpose(1, 2, 0))  # (N, W, B)
    num_words, flat = linked.shape[1], linked.reshape(-1)
    bits = np.uint64(1) << (node % 64).astype(np.uint64)
    first_word = node * num_words * batch  # of every node's row in flat
    starts, turned = np.arange(batch) * num_nodes, np.ascontiguousarray(shares.T)
    threshold = p.astype(np.float32)

    for i in range(num_nodes):
        # The nodes that i is not linked to, one graph after the other, as N * graph + node.
        taken = bitset.unpack(np.ascontiguousarray(linked[i].T), num_nodes)
        taken[:, i] = True
        listed = np.flatnonzero(~taken)
        count = num_nodes - 1 - np.bitwise_count(linked[i]).sum(axis=0, dtype=np.int64)
        first = np.cumsum(count) - count
        steps = int(turned[i].max())
        draws = stream.random((steps, batch), dtype=np.float32)
        moves = (draws < threshold) & (np.arange(steps)[:, None] < turned[i]) & (count > 0)
        mine, word = bits[i], i // 64 * batch
        for k in range(steps):
            moved = np.flatnonzero(moves[k])
            if not moved.size:
                continue
            # The node at this place of the list gets the edge; the old end becomes free instead.
            place = first[moved] + (stream.random(moved.size) * count[moved]).astype(np.int64)
            old, start = (i + 1 + k) % num_nodes, starts[moved]
            new = listed[place] - start
            listed[place] = start + old
            flat[first_word[old] + word + moved] ^= mine
            flat[first_word[new] + word + moved] ^= mine
        taken = np.ones((batch, num_nodes), dtype=bool)
        taken.reshape(-1)[listed] = False
        taken[:, i] = False
        linked[i] = bitset.pack(taken).T
    return np.ascontiguousarray(linked.transpose(2, 0, 1))
