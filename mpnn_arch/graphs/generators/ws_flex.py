"""WS-flex: the paper's small-world family, a Watts-Strogatz graph of any average degree."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from random import Random
from typing import Any

import numpy as np

from mpnn_arch.checks import check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset
from mpnn_arch.graphs.arrays import Edges
from mpnn_arch.graphs.generators.connected import TRIES
from mpnn_arch.graphs.generators.family import GENERATORS
from mpnn_arch.graphs.generators.limits import check_edges, check_num_nodes
from mpnn_arch.graphs.relational_graph import RelationalGraph

# Above this many nodes the rows of bits, N^2 / 8 bytes, are larger than the lists of changes.
LARGEST_AS_BITS = 2048


@GENERATORS.register("ws_flex")
def ws_flex(
    num_nodes: int, average_degree: float, rewiring_probability: float, seed: int = 0
) -> RelationalGraph:
    """A ring of e = round(N average_degree / 2) edges, each rewired with probability p.

    Node i is linked to its next c_i nodes on the ring, where the c_i divide e as evenly as
    possible: the first (e mod N) nodes have one more. Then, for every node and every one of its c_i
    edges in turn, the far end moves with ``rewiring_probability`` to a node drawn uniformly from
    those that i is not linked to. The draws are those of ``random.Random(seed)`` in the order of
    the paper's runs, so its published graphs are reproduced edge by edge.

    Args:
        num_nodes: N.
        average_degree: in [2, N - 1]; N times the ``density`` of the published files.
        rewiring_probability: p, in [0, 1].
        seed: of the random stream.

    Raises:
        InputError: a value outside its range, or no connected graph in 100 tries.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 3.1.

    Example:
        >>> from mpnn_arch import graphs
        >>> graph = graphs.ws_flex(64, average_degree=8.5, rewiring_probability=0.1, seed=0)
        >>> graph.num_edges
        272
        >>> round(graph.clustering_coefficient, 3), round(graph.average_path_length, 3)
        (0.469, 2.465)
    """
    num_nodes, average_degree, rewiring_probability = check_ws_flex(
        num_nodes, average_degree, rewiring_probability
    )
    seed = check_whole("seed", seed, 0)
    if num_nodes > LARGEST_AS_BITS:
        return large_ws_flex(num_nodes, average_degree, rewiring_probability, seed)
    rows = ws_flex_rows(num_nodes, average_degree, rewiring_probability, seed)
    words = words_of_rows(rows, num_nodes)
    return RelationalGraph.from_adjacency(bitset.unpack(words, num_nodes))


def check_ws_flex(
    num_nodes: Any, average_degree: Any, rewiring_probability: Any
) -> tuple[int, float, float]:
    """The three parameters in their types.

    Raises:
        InputError: one is outside its range.
    """
    num_nodes = check_num_nodes(num_nodes, least=3)
    return (
        num_nodes,
        check_range("average_degree", average_degree, 2, num_nodes - 1),
        check_range("rewiring_probability", rewiring_probability, 0, 1),
    )


def edge_shares(num_nodes: int, average_degree: float) -> list[int]:
    """c_i, the number of edges from each node to its successors on the ring."""
    share, larger = divmod(round(num_nodes * average_degree / 2), num_nodes)
    return [share + 1] * larger + [share] * (num_nodes - larger)


def ws_flex_rows(num_nodes: int, average_degree: float, p: float, seed: int) -> list[int]:
    """The adjacency of :func:`ws_flex`, node i's neighbours as the bits of the i-th integer.

    No self-loops. The values are not checked.

    Raises:
        InputError: no connected graph in 100 tries.
    """
    shares = edge_shares(num_nodes, average_degree)
    lattice = _lattice(num_nodes, tuple(shares))
    # Random.choice(list of N) draws N.bit_length() bits until they are a valid index. The loop
    # below does the same without the function calls, which would take most of the time; indices
    # past the end share one extra bit that counts as taken.
    stream = Random(seed)
    draw, draw_bits, width = stream.random, stream.getrandbits, num_nodes.bit_length()
    past = 1 << num_nodes
    everyone = past - 1
    bit = [1 << node for node in range(num_nodes)] + [past] * ((1 << width) - num_nodes)

    for _ in range(TRIES):
        rows = list(lattice)
        for i, share in enumerate(shares):
            mine, taken = bit[i], rows[i] | bit[i] | past
            for v in range(i + 1, i + 1 + share):
                if draw() >= p:
                    continue
                if taken == everyone | past:
                    # The published loop draws two nodes before it detects that i is linked to all.
                    for _draw in range(2):
                        while draw_bits(width) >= num_nodes:
                            pass
                    continue
                w = draw_bits(width)
                while taken & bit[w]:
                    w = draw_bits(width)
                if v >= num_nodes:
                    v -= num_nodes
                taken ^= bit[v] | bit[w]
                rows[v] ^= mine
                rows[w] ^= mine
            rows[i] = taken ^ mine ^ past
        if _is_connected(rows, everyone):
            return rows
    raise _never_connected(num_nodes, average_degree, p, seed)


def _never_connected(num_nodes: int, average_degree: float, p: float, seed: int) -> InputError:
    return InputError(
        f"ws_flex found no connected graph of {num_nodes} nodes at average_degree "
        f"{average_degree:g}, rewiring_probability {p:g}, seed {seed} in {TRIES} tries; "
        "raise the degree, lower the probability, or change the seed"
    )


def large_ws_flex(num_nodes: int, average_degree: float, p: float, seed: int) -> RelationalGraph:
    """:func:`ws_flex` in memory proportional to the edges, from the same draws.

    Only the difference from the ring is stored: which of its edges were removed, and which others
    were added. The values are not checked.

    Raises:
        InputError: no connected graph in 100 tries, or more edges than there is memory for.
    """
    check_edges("ws_flex", num_nodes, round(num_nodes * average_degree / 2))
    shares = edge_shares(num_nodes, average_degree)
    node, share = np.arange(num_nodes), np.array(shares)
    # Edge k of the ring links `source[k]` with the node k - first[k] + 1 places further.
    source = np.repeat(node, share)
    ahead = np.arange(len(source)) - np.repeat(np.cumsum(share) - share, share) + 1
    ring = np.stack([source, (source + ahead) % num_nodes])
    # Node i is linked to its next shares[i] nodes, and to those before it that reach it.
    degrees = np.bincount(ring.ravel(), minlength=num_nodes).tolist()

    stream = Random(seed)
    draw, draw_bits, width = stream.random, stream.getrandbits, num_nodes.bit_length()
    for _ in range(TRIES):
        degree = list(degrees)
        removed: set[int] = set()  # edges {u, v} of the ring, as min * N + max
        added: set[int] = set()
        for i, steps in enumerate(shares):
            for v in range(i + 1, i + 1 + steps):
                if draw() >= p:
                    continue
                if degree[i] == num_nodes - 1:
                    # As the published loop: it draws two nodes before it detects this.
                    for _draw in range(2):
                        while draw_bits(width) >= num_nodes:
                            pass
                    continue
                while True:
                    w = draw_bits(width)
                    if w >= num_nodes or w == i:
                        continue
                    key = i * num_nodes + w if i < w else w * num_nodes + i
                    if key in added:
                        continue
                    if (w - i) % num_nodes <= steps or (i - w) % num_nodes <= shares[w]:
                        if key not in removed:
                            continue
                        removed.remove(key)
                    else:
                        added.add(key)
                    break
                if v >= num_nodes:
                    v -= num_nodes
                removed.add(i * num_nodes + v if i < v else v * num_nodes + i)
                degree[v] -= 1
                degree[w] += 1
        edges = _changed(num_nodes, ring, removed, added)
        if _reaches_all(num_nodes, edges):
            return RelationalGraph(num_nodes, edges)
    raise _never_connected(num_nodes, average_degree, p, seed)


def _changed(num_nodes: int, ring: Edges, removed: set[int], added: set[int]) -> Edges:
    keys = np.minimum(*ring) * num_nodes + np.maximum(*ring)
    gone = np.fromiter(removed, dtype=np.int64, count=len(removed))
    new = np.fromiter(added, dtype=np.int64, count=len(added))
    keys = np.concatenate([keys[np.isin(keys, gone, invert=True)], new])
    return np.stack(np.divmod(keys, num_nodes))


def _reaches_all(num_nodes: int, edges: Edges) -> bool:
    """Whether the undirected edges connect all nodes.

    Each node points to the smallest node it is known to be connected with; pointers are followed to
    their ends and passed along the edges until nothing changes.
    """
    low = np.arange(num_nodes)
    while True:
        before = low.copy()
        ends = np.minimum(low[edges[0]], low[edges[1]])
        for end in edges:
            np.minimum.at(low, before[end], ends)
        while not np.array_equal(low, low[low]):
            low = low[low]
        if np.array_equal(low, before):
            return bool((low == 0).all())


def words_of_rows(rows: list[int], num_nodes: int) -> bitset.Words:
    """(N, W) words of N integers."""
    num_octets = -(-num_nodes // 64) * 8
    octets = b"".join(row.to_bytes(num_octets, "little") for row in rows)
    words = np.frombuffer(octets, dtype="<u8").reshape(num_nodes, -1)
    return words.astype(np.uint64, copy=False)


def ws_flex_words(
    num_nodes: int,
    average_degree: Iterable[float],
    rewiring_probability: Iterable[float],
    seed: Iterable[int],
) -> bitset.Words:
    """(B, N, W) words of the graphs with these parameters, one entry of each list per graph.

    Raises:
        InputError: as :func:`ws_flex`.
    """
    words = []
    for degree, p, s in zip(average_degree, rewiring_probability, seed, strict=True):
        checked = *check_ws_flex(num_nodes, degree, p), check_whole("seed", s, 0)
        words.append(words_of_rows(ws_flex_rows(*checked), num_nodes))
    return np.stack(words)


@lru_cache(maxsize=1024)
def _lattice(num_nodes: int, shares: tuple[int, ...]) -> tuple[int, ...]:
    """The ring before rewiring: node i with the next shares[i] nodes, as bits."""
    rows = [0] * num_nodes
    everyone = (1 << num_nodes) - 1
    share, larger = shares[-1], shares.count(shares[-1] + 1)
    ahead = ((1 << share) - 1) << 1
    behind = ((1 << share) - 1) << (num_nodes - share)
    for i in range(num_nodes):
        turned = (ahead | behind) << i
        rows[i] = (turned | turned >> num_nodes) & everyone
    for i in range(larger):
        far = (i + share + 1) % num_nodes
        rows[i] |= 1 << far
        rows[far] |= 1 << i
    return tuple(rows)


def _is_connected(rows: list[int], everyone: int) -> bool:
    reached, fresh = 1, 1
    while fresh:
        found = 0
        while fresh:
            lowest = fresh & -fresh
            found |= rows[lowest.bit_length() - 1]
            fresh ^= lowest
            if found | reached == everyone:
                return True
        fresh = found & ~reached
        reached |= found
    return reached == everyone
