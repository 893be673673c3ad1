"""Measures of graphs of any size, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mpnn_arch.checks import as_list
from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph, as_graphs
from mpnn_arch.graphs.measures.batch import Array, GraphBatch
from mpnn_arch.graphs.measures.registry import MEASURES

if TYPE_CHECKING:
    import pandas as pd
    import torch

# Entries of the largest (b, N, N) batch measured at once: 32 MiB of float64.
_AT_ONCE = 1 << 22
_ON_DEVICE = ("clustering_coefficient", "average_path_length")


def measure(
    graphs: GivenGraph | Sequence[GivenGraph],
    names: Sequence[str] = _ON_DEVICE,
    *,
    reachable_only: bool = False,
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """A table with one row per graph and one column per measure.

    Args:
        graphs: one or several, of any size, or their specifications.
        names: measures, see ``graphs.list_measures()``.
        reachable_only: leave pairs that no path joins out of measures of distance.
        device: where to compute C and L of undirected graphs as tensors; None uses 64-bit words
            on the CPU, which are faster there.

    Raises:
        InputError: no graph, an unknown name, a graph for which a measure is not defined, or a
            measure of your own that returns other than one number a graph.

    Example:
        >>> from mpnn_arch import graphs
        >>> graphs.measure([graphs.ring(8, 4), graphs.complete(8)])
           clustering_coefficient  average_path_length
        0                     0.5             1.428571
        1                     1.0             1.000000
    """
    import pandas as pd

    names = as_list("names", names)
    listed = as_graphs(graphs)
    if not listed:
        raise InputError("there is no graph to measure; give at least one")
    chosen = {name: MEASURES.get(name) for name in names}
    columns = {name: np.empty(len(listed)) for name in names}
    alike: dict[tuple[int, bool], list[int]] = {}
    for i, graph in enumerate(listed):
        alike.setdefault((graph.num_nodes, graph.is_directed), []).append(i)
    for (num_nodes, directed), members in alike.items():
        step = max(1, _AT_ONCE // num_nodes**2)
        for start in range(0, len(members), step):
            places = members[start : start + step]
            batch = GraphBatch.of([listed[i] for i in places], reachable_only=reachable_only)
            for name, function in chosen.items():
                on_device = device is not None and name in _ON_DEVICE and not directed
                values = _by_tensors(name, batch, device) if on_device else function(batch)
                if np.shape(values) != (len(places),):
                    raise InputError(
                        f"the measure {name!r} returned values of shape {np.shape(values)} for a "
                        f"batch of {len(places)} graphs; it returns one number for each"
                    )
                columns[name][places] = values
    return pd.DataFrame(columns)


def _by_tensors(name: str, batch: GraphBatch, device: torch.device | str | None) -> Array:
    import torch

    from mpnn_arch.graphs.measures import tensors

    adjacency = torch.from_numpy(batch.adjacency).to(device)
    if name == "clustering_coefficient":
        return tensors.clustering_coefficient(adjacency).cpu().numpy()
    lengths = tensors.average_path_length(adjacency, reachable_only=batch.reachable_only)
    return lengths.cpu().numpy()
