"""C and L of a batch of graphs as tensor products, on any device.

Entries of products of 0 and 1 are integers of at most N, which float32 (also TF32) represents
exactly; their sums and the divisions are in float64. The words of ``graphs.bitset`` are
faster on a CPU.

Shapes: B graphs, N nodes; adjacency (B, N, N), any dtype, self-loops ignored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mpnn_arch.graphs.c_and_l import check_reachable


def clustering_coefficient(adjacency: Tensor) -> Tensor:
    """(B,) float64: C of undirected graphs, see ``measures.clustering``."""
    linked = _links(adjacency)
    around = ((linked @ linked) * linked).sum(dim=2, dtype=torch.float64)
    degree = linked.sum(dim=2, dtype=torch.float64)
    pairs = degree * (degree - 1)
    return torch.where(pairs > 0, around / pairs.clamp(min=1), 0.0).mean(dim=1)


def average_path_length(adjacency: Tensor, *, reachable_only: bool = False) -> Tensor:
    """(B,) float64: L, directed paths if the adjacency is not symmetric.

    Raises:
        InputError: one node, no edge, or unreachable pairs, unless they are left out.
    """
    linked = _links(adjacency)
    num_nodes = linked.shape[1]
    reached = linked + torch.eye(num_nodes, device=linked.device)
    onward = reached.clone()
    count = reached.sum(dim=(1, 2), dtype=torch.float64)
    total, joined, step = count - num_nodes, count - num_nodes, 1
    while True:
        reached = ((reached @ onward) > 0).to(linked.dtype)
        step += 1
        now = reached.sum(dim=(1, 2), dtype=torch.float64)
        found = now - count
        if not bool(found.any()):
            break
        total, joined, count = total + step * found, joined + found, now
    check_reachable(
        joined.cpu().numpy().astype(np.int64), num_nodes, "average path length", reachable_only
    )
    return total / joined


def _links(adjacency: Tensor) -> Tensor:
    keep = ~torch.eye(adjacency.shape[-1], dtype=torch.bool, device=adjacency.device)
    return ((adjacency != 0) & keep).to(torch.float32)
