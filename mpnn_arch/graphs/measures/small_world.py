"""Small-worldness: clustering like a lattice, path lengths like a random graph."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mpnn_arch.checks import counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import bitset
from mpnn_arch.graphs.arrays import sorted_edges
from mpnn_arch.graphs.generators.connected import TRIES, never_connected
from mpnn_arch.graphs.generators.er import check_er
from mpnn_arch.graphs.generators.ws_flex import words_of_rows, ws_flex_rows
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.clustering import clustering_coefficient
from mpnn_arch.graphs.measures.path_length import average_path_length
from mpnn_arch.graphs.measures.registry import MEASURES

REFERENCES = 10


@MEASURES.register("small_world_sigma")
def small_world_sigma(batch: GraphBatch) -> Array:
    """(B,): sigma = (C / C_random) / (L / L_random), above 1 for small worlds.

    C_random and L_random are means over ten random graphs (seeds 0 to 9), drawn uniformly from the
    connected graphs with the same numbers of nodes and edges. NaN where these have no triangle.

    Raises:
        InputError: directed graphs, unreachable pairs, or fewer edges than a random graph needs.

    Source: Humphries and Gurney, Network small-world-ness, PLoS ONE 2008.
    """
    c, length, reference = _with_random_reference(batch, "sigma")
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = (c / reference[:, 0]) / (length / reference[:, 1])
    return np.where(reference[:, 0] > 0, sigma, np.nan)


@MEASURES.register("small_world_omega")
def small_world_omega(batch: GraphBatch) -> Array:
    """(B,): omega = L_random / L - C / C_lattice: near 0 a small world, -1 a lattice, 1 random.

    L_random as for :func:`small_world_sigma`; C_lattice is that of the ring lattice from which a
    WS-flex graph with the same numbers of nodes and edges is rewired. NaN where the lattice has no
    triangle.

    Raises:
        InputError: as :func:`small_world_sigma`.

    Source: Telesford, Joyce, Hayasaka, Burdette, Laurienti, The ubiquity of small-world networks,
    Brain Connectivity 2011.
    """
    c, length, reference = _with_random_reference(batch, "omega")
    edges = batch.degrees.sum(axis=1) // 2
    lattice = np.array([_lattice_clustering(batch.num_nodes, int(e)) for e in edges])
    with np.errstate(divide="ignore", invalid="ignore"):
        omega = reference[:, 1] / length - c / lattice
    return np.where(lattice > 0, omega, np.nan)


def _with_random_reference(batch: GraphBatch, what: str) -> tuple[Array, Array, Array]:
    batch.refuse_directed(f"small-world {what}")
    c, length = clustering_coefficient(batch), average_path_length(batch)
    edges = batch.degrees.sum(axis=1) // 2
    reference = np.array([_random_reference(batch.num_nodes, int(e)) for e in edges])
    return c, length, reference


@lru_cache(maxsize=4096)
def _random_reference(num_nodes: int, num_edges: int) -> tuple[float, float]:
    check_er(num_nodes, num_edges)
    words = [_random(num_nodes, num_edges, seed) for seed in range(REFERENCES)]
    batch = GraphBatch(np.concatenate(words))
    return float(clustering_coefficient(batch).mean()), float(average_path_length(batch).mean())


def _random(num_nodes: int, num_edges: int, seed: int) -> bitset.Words:
    """(1, N, W): drawn from the graphs of ``er``, all edges at once: one at a time takes 10 ms."""
    random, pairs = np.random.default_rng(seed), num_nodes * (num_nodes - 1) // 2
    for _ in range(TRIES):
        chosen = random.choice(pairs, num_edges, replace=False, shuffle=False)
        ends = np.stack(_pairs(chosen))
        edges = sorted_edges(num_nodes, ends, reverse=True, self_loops=False)
        words = bitset.of_edges(num_nodes, [edges])
        if bitset.is_connected(words)[0]:
            return words
    raise never_connected(f"er of {num_nodes} nodes and {num_edges} edges", seed)


def _pairs(places: bitset.Counts) -> tuple[bitset.Counts, bitset.Counts]:
    """The pairs high > low at these places of (1, 0), (2, 0), (2, 1), (3, 0), ..."""
    high = ((1 + np.sqrt(8.0 * places + 1)) / 2).astype(np.int64)
    high -= high * (high - 1) // 2 > places  # the root is rounded
    high += high * (high + 1) // 2 <= places
    return high, places - high * (high - 1) // 2


@lru_cache(maxsize=4096)
def _lattice_clustering(num_nodes: int, num_edges: int) -> float:
    if num_edges < num_nodes:
        raise InputError(
            f"the graph has {counted(num_nodes, 'node')} and {counted(num_edges, 'edge')}, fewer "
            f"than a ring lattice has; omega needs {num_nodes} or more"
        )
    rows = ws_flex_rows(num_nodes, 2 * num_edges / num_nodes, 0.0, seed=0)
    words: bitset.Words = words_of_rows(rows, num_nodes)[None]
    return float(clustering_coefficient(GraphBatch(words))[0])
