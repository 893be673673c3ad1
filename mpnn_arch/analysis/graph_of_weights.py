"""The graph that a trained dense network has learned (the paper's section 7, Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import stats
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor, nn

from mpnn_arch.checks import as_list, check_range, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import GraphBatch, RelationalGraph
from mpnn_arch.graphs.measures import average_path_length
from mpnn_arch.partition import ChannelPartition
from mpnn_arch.rounds import RelationalLinear

Array = npt.NDArray[np.float64]
Network = nn.Module | Tensor | Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class LearnedGraph:
    """A relational graph read from weights.

    Attributes:
        edge_values: (N, N) symmetric, see :func:`edge_values`.
        threshold: an edge is where the value exceeds it.
        graph: the graph, with self-loops.
    """

    edge_values: Array
    threshold: float
    graph: RelationalGraph

    @property
    def density(self) -> float:
        """Mean degree over N, self-loops left out, as of every relational graph."""
        return float(self.graph.degrees.mean()) / self.graph.num_nodes

    @property
    def clustering_coefficient(self) -> float:
        """C."""
        return self.graph.clustering_coefficient

    @property
    def average_path_length(self) -> float:
        """L over the pairs that a path joins; NaN without an edge."""
        if not self.graph.num_edges:
            return float("nan")
        return float(average_path_length(GraphBatch.of([self.graph], reachable_only=True))[0])

    @property
    def is_connected(self) -> bool:
        """Whether a path joins every pair of nodes."""
        distances = GraphBatch.of([self.graph]).distances
        return bool((distances >= 0).all())

    def to_dict(self) -> dict[str, Any]:
        """One row of a table: threshold, density, edges, C, L, and whether it is connected."""
        return {
            "threshold": self.threshold,
            "density": self.density,
            "edges": self.graph.num_edges,
            "clustering_coefficient": self.clustering_coefficient,
            "average_path_length": self.average_path_length,
            "connected": self.is_connected,
        }


def learned_graph(
    model: Network, num_nodes: int, threshold: float | None = None, density: float | None = None
) -> LearnedGraph:
    """The relational graph of a dense network: an edge where the weights between nodes are large.

    Args:
        model: a network, of which the square linear layers are read, or their weights: a matrix,
            or a list of several.
        num_nodes: N.
        threshold: an edge is where the value exceeds it.
        density: instead, the target: mean degree over N, so at most (N - 1) / N. Pairs of equal
            value at the threshold are left out together, as are pairs of value 0.
            With neither, the highest threshold is taken at which the graph is connected.

    Raises:
        InputError: no square linear layer, layers of several widths, fewer channels than nodes,
            weights that are not finite, both a threshold and a density, or neither where no
            threshold gives a connected graph.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 7.

    Example:
        >>> from mpnn_arch import models
        >>> from mpnn_arch.analysis import learned_graph
        >>> model = models.build("mlp", in_features=64, hidden_features=64)
        >>> learned_graph(model, num_nodes=16, density=0.25).graph.num_nodes
        16
    """
    return _cut(edge_values(model, num_nodes), threshold, density)


def learned_graph_sweep(
    model: Network, num_nodes: int, thresholds: Sequence[float] | None = None
) -> pd.DataFrame:
    """C and L of the learned graph by threshold.

    Args:
        model, num_nodes: see :func:`learned_graph`.
        thresholds: of the edge values; by default those that give densities from 0.05 to 0.95 in
            steps of 0.05, as far as N nodes allow.

    Returns:
        A row a threshold: ``threshold``, ``density``, ``edges``, ``clustering_coefficient``,
        ``average_path_length`` over reachable pairs, ``connected``.

    Raises:
        InputError: as :func:`learned_graph`.

    Example:
        >>> from mpnn_arch import models
        >>> from mpnn_arch.analysis import learned_graph_sweep
        >>> model = models.build("mlp", in_features=64, hidden_features=64)
        >>> len(learned_graph_sweep(model, num_nodes=16, thresholds=[0.9, 1.0]))
        2
    """
    values = edge_values(model, num_nodes)
    if thresholds is not None:
        cuts = [_cut(values, threshold, None) for threshold in as_list("thresholds", thresholds)]
    else:
        most = (num_nodes - 1) / num_nodes
        densities = [share for share in np.arange(1, 20) / 20 if share <= most]
        cuts = [_cut(values, None, share) for share in densities]
    return pd.DataFrame([cut.to_dict() for cut in cuts])


class LearnedGraphTracker:
    """Follows the learned graph during training: call it after every epoch.

    ``tracker(0)`` before the first epoch, then ``tracker(trainer.train_epoch())`` until the
    trainer is finished; in another loop ``tracker(epoch)``.

    Args:
        model, num_nodes, threshold, density: see :func:`learned_graph`. Weights shrink under
            weight decay, so that a density makes epochs comparable where a threshold does not.

    Example:
        >>> from mpnn_arch import models
        >>> from mpnn_arch.analysis import LearnedGraphTracker
        >>> model = models.build("mlp", in_features=64, hidden_features=64)
        >>> tracker = LearnedGraphTracker(model, num_nodes=16, density=0.25)
        >>> _ = tracker(0)
        >>> len(tracker.table)
        1
    """

    def __init__(
        self,
        model: nn.Module,
        num_nodes: int,
        threshold: float | None = None,
        density: float | None = None,
    ) -> None:
        self.model, self.num_nodes = model, num_nodes
        self.threshold, self.density = threshold, density
        self._rows: list[dict[str, Any]] = []

    def __call__(self, epoch: Any) -> LearnedGraph:
        """Record the graph now.

        Args:
            epoch: its number, or metrics with ``epoch`` and, where there is one, ``test_error``.
        """
        found = learned_graph(self.model, self.num_nodes, self.threshold, self.density)
        number = check_whole("epoch", getattr(epoch, "epoch", epoch), 0)
        error = getattr(epoch, "test_error", float("nan"))
        self._rows.append({"epoch": number, "test_error": error, **found.to_dict()})
        return found

    @property
    def table(self) -> pd.DataFrame:
        """A row a call: ``epoch``, ``test_error``, and the columns of the sweep."""
        return pd.DataFrame(self._rows)


def edge_values(model: Network, num_nodes: int) -> Array:
    """(N, N): how large the weights between two nodes are, over all square layers.

    With W^(r) the weights of layer r and W_vu its block from the channels of u to those of v, the
    value is the Frobenius norm of W_vu^(r) + (W_uv^(r))^T over all r and all entries; the diagonal
    is 0. A larger share of channels, where N does not divide them, has larger values.

    Raises:
        InputError: as :func:`learned_graph`.
    """
    weights = np.stack(_square_weights(model))
    if not np.isfinite(weights).all():
        raise InputError("the weights hold NaN or infinite values; give a training that converged")
    # The first channels belong to node 0, on both sides, so that W + W^T pairs equal blocks.
    starts = np.array(ChannelPartition(weights.shape[1], num_nodes).offsets[:-1])
    squares = ((weights + weights.transpose(0, 2, 1)) ** 2).sum(axis=0)
    blocks = np.add.reduceat(np.add.reduceat(squares, starts, axis=0), starts, axis=1)
    values: Array = np.sqrt((blocks + blocks.T) / 2)  # equal to the last bit on both sides
    np.fill_diagonal(values, 0.0)
    return values


def _square_weights(model: Network) -> list[Array]:
    """(m, m) each, row = output channel."""
    if isinstance(model, nn.Module):
        rounds = [layer for layer in model.modules() if isinstance(layer, RelationalLinear)]
        parts = {id(part) for layer in rounds for part in layer.modules()}
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            found = [layer.weight for layer in layers if id(layer) not in parts]
            found += [layer.dense_weight() for layer in rounds]
        found = [weight for weight in found if weight.shape[0] == weight.shape[1]]
        what = "the network has no square linear layer; give one with hidden layers of equal width"
    else:
        found = [model] if isinstance(model, Tensor) else as_list("model", model)
        what = "there is no weight matrix; give one or more"
    if not found:
        raise InputError(what)
    for weight in found:
        if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[0] != weight.shape[1]:
            given = f"one of {tuple(weight.shape)}" if isinstance(weight, Tensor) else shown(weight)
            raise InputError(
                f"a square linear layer has a weight tensor of shape (m, m), not {given}; leave "
                "out the others"
            )
    widths = sorted({len(weight) for weight in found})
    if len(widths) > 1:
        raise InputError(
            f"the square linear layers have {' and '.join(map(str, widths))} channels, whose "
            "weights cannot be stacked; give a list of weights of one width"
        )
    return [weight.detach().cpu().double().numpy() for weight in found]


def _cut(values: Array, threshold: float | None, density: float | None) -> LearnedGraph:
    num_nodes = len(values)
    ranked = np.sort(values[np.triu_indices(num_nodes, 1)])[::-1]
    if threshold is not None and density is not None:
        raise InputError(
            f"a threshold ({threshold!r}) and a density ({density!r}) were given; leave one out"
        )
    if density is not None:
        density = check_range("density", density, 0.0, (num_nodes - 1) / num_nodes)
        kept = round(density * num_nodes**2 / 2)
        threshold = float(ranked[kept]) if kept < len(ranked) else 0.0
    elif threshold is None:
        threshold = _connecting(values, ranked)
    threshold = check_range("threshold", threshold, 0.0, float("inf"))
    graph = RelationalGraph.from_adjacency((values > threshold).astype(np.uint8))
    return LearnedGraph(values, threshold, graph)


def _connecting(values: Array, ranked: Array) -> float:
    """The highest threshold at which all nodes are joined.

    The weakest edge of the maximum spanning tree is the last that must stay.
    """
    if len(values) == 1:
        return 0.0
    # Ranks instead of values: a tree of least cost takes 0 for "no edge".
    cost = np.where(values > 0, stats.rankdata(-values).reshape(values.shape), 0.0)
    tree = minimum_spanning_tree(cost).tocoo()
    if tree.nnz < len(values) - 1:
        raise InputError(
            "no threshold gives a connected graph, since too many weights are 0; give a threshold "
            "or a density"
        )
    weakest = values[tree.row, tree.col].min()
    below = ranked[ranked < weakest]
    return float(below[0]) if len(below) else 0.0
