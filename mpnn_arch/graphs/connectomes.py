"""The biological networks of the paper: cat and macaque cortex."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpnn_arch.checks import check_choice
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import remote
from mpnn_arch.graphs.files import read_matrix
from mpnn_arch.graphs.measures import GraphBatch
from mpnn_arch.graphs.measures.clustering import clustering_coefficient, neighbourhood_clustering
from mpnn_arch.graphs.measures.path_length import average_path_length
from mpnn_arch.graphs.relational_graph import RelationalGraph


@dataclass(frozen=True)
class _Source:
    num_nodes: int
    file: str  # in the paper's public repository
    sha256: str  # of the matrix's entries, row by row, as bytes 0 and 1
    paper: tuple[float, float]  # C and L in the paper's table


CONNECTOMES = {
    "cat_cortex": _Source(
        52,
        "pycls/datasets/cat.txt",
        "e974de2a25e99ce6e6a0647c426b780951d7e98b67c1d2bfb7e66fc096c40c17",
        (0.55, 1.81),
    ),
    "macaque_visual_cortex": _Source(
        30,
        "pycls/datasets/mcvisual.txt",
        "dbf5417128cbc76fa1b4f4ba363f74beeff6f9090619cabbc9a1629c21dc6f96",
        (0.53, 1.73),
    ),
    "macaque_whole_cortex": _Source(
        71,
        "pycls/datasets/mcwhole.txt",
        "e0206fd1b5ea23b8097f23930657b0a477cd2073ba058b8f893e5bee88d0ede0",
        (0.46, 2.38),
    ),
}


def connectome(
    name: str, root: str | Path | None = None, *, directed: bool = True, download: bool = True
) -> RelationalGraph:
    """The graph of connections between the areas of a cortex, with self-loops added.

    ``cat_cortex`` (52 areas), ``macaque_visual_cortex`` (30) and ``macaque_whole_cortex`` (71).
    The raw matrices are directed, row = target, column = source, as in the paper's runs. The
    definitions that come closest to the paper's table are: C, the directed links among a node's
    in- and out-neighbours over k (k - 1) (0.551, 0.526, 0.455 against 0.55, 0.53, 0.46); L, the
    mean directed path over reachable pairs (1.808, 1.722, 2.330 against 1.81, 1.73, 2.38), since
    in the whole cortex some pairs have no path. :func:`connectome_measures` computes all of them.

    Args:
        name: one of the three.
        root: folder with the files, as ``<name>.txt`` or ``connectomes/<name>.txt``; by default
            $MPNN_ARCH_DATA, then the cache.
        directed: False adds the reverse of every link.
        download: fetch a missing file from the paper's public repository.

    Raises:
        InputError: an unknown name, a file that is missing or differs from the published one, or
            a failed download, which leaves no file behind.

    Source: You, Leskovec, He, Xie, ICML 2020, section 5.5; the file of facebookresearch/graph2nn.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.connectome("cat_cortex", "nowhere", download=False)
        Traceback (most recent call last):
            ...
        mpnn_arch.errors.InputError: cat_cortex.txt is not in nowhere; put it there, or pass ...
    """
    check_choice("connectome", name, CONNECTOMES)
    source = CONNECTOMES[name]
    file, in_cache = f"{name}.txt", f"connectomes/{name}.txt"
    matrix = remote.obtain(
        [file, in_cache],
        root,
        lambda path: _read(path, source),
        remote=source.file,
        store_as=in_cache if root is None else file,
        download=download,
    )
    return RelationalGraph.from_adjacency(matrix, directed=directed)


def connectome_measures(root: str | Path | None = None) -> list[dict[str, Any]]:
    """C and L of every connectome under each definition, with the paper's values; one row each.

    ``C_neighbourhood`` and ``C_directed`` (Fagiolo) and ``L_directed`` are of the raw matrix,
    ``C_undirected`` and ``L_undirected`` of the symmetrised one; every L is over reachable pairs.
    """
    rows = []
    for name, source in CONNECTOMES.items():
        raw = GraphBatch.of([connectome(name, root)], reachable_only=True)
        both = GraphBatch.of([connectome(name, root, directed=False)], reachable_only=True)
        rows.append(
            {
                "connectome": name,
                "C_paper": source.paper[0],
                "C_neighbourhood": float(neighbourhood_clustering(raw)[0]),
                "C_directed": float(clustering_coefficient(raw)[0]),
                "C_undirected": float(clustering_coefficient(both)[0]),
                "L_paper": source.paper[1],
                "L_directed": float(average_path_length(raw)[0]),
                "L_undirected": float(average_path_length(both)[0]),
            }
        )
    return rows


def _read(path: Path, source: _Source) -> npt.NDArray[np.uint8]:
    matrix = read_matrix(path)
    # A checksum of the entries, not of the file: line endings may differ.
    entries = matrix.astype(np.uint8)
    if matrix.size == 0 or hashlib.sha256(entries.tobytes()).hexdigest() != source.sha256:
        raise InputError(
            f"{path} is not the published matrix of {source.num_nodes} areas (its checksum "
            "differs); delete it and fetch it again, or load it with RelationalGraph.from_file"
        )
    return entries
