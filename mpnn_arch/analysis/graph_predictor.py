"""The round explaining the round: a graph neural network predicts a network's error from its graph.

It is made of the library's own rounds with shared messages (the paper's Equation 6), and competes
on held-out graphs with what density, C and L predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from mpnn_arch.analysis.cross_validation import explained, explained_interval
from mpnn_arch.analysis.density_curve import density_features, plane_features, with_density
from mpnn_arch.analysis.graph_rows import rebuild
from mpnn_arch.analysis.per_graph import Array, Flags, per_graph, without_baseline
from mpnn_arch.checks import check_range, check_whole
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.graphs.given import GivenGraph, as_named_graphs
from mpnn_arch.rounds.graph_round import GraphRound
from mpnn_arch.rounds.layers import RelationalLinear

Encoding = Literal["degree", "walks"]
WALKS = 8
_ONE_NODE = RelationalGraph(1, [[0], [0]])


class ErrorPredictor(nn.Module):
    """Rounds with the graph as input, the mean over its nodes, and a linear read-out.

    Args:
        features: of every node.
        hidden: channels of a node between the rounds.
        rounds: how many.
        generator: draws the initial parameters.

    Shapes:
        - **x:** (B, N, features) of B graphs of N nodes, **edge_index:** (2, E) of their disjoint
          union, node v of graph b being b N + v
        - **output:** (B,)

    Source: You, Leskovec, He, Xie, ICML 2020, Equation 6.
    """

    def __init__(self, features: int, hidden: int, rounds: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [features] + [hidden] * rounds
        self.rounds = nn.ModuleList(
            GraphRound(
                before,
                after,
                "shared_linear",
                "mean",
                norm="batch",
                activation="ReLU",
                residual=before == after,
                generator=generator,
            )
            for before, after in pairwise(widths)
        )
        self.read_out = RelationalLinear(_ONE_NODE, hidden, 1, generator=generator)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """The predicted value of every graph."""
        graphs, num_nodes, _ = x.shape
        x = x.flatten(0, 1)  # (B * N, features)
        for one in self.rounds:
            x = one(x, edge_index)
        value: Tensor = self.read_out(x.view(graphs, num_nodes, -1).mean(dim=1))
        return value.squeeze(-1)


def predict_from_graphs(
    table: pd.DataFrame,
    *,
    test_share: float = 0.25,
    epochs: int = 60,
    hidden: int = 32,
    rounds: int = 3,
    seed: int = 0,
    graphs: Mapping[str, GivenGraph] | None = None,
) -> pd.DataFrame:
    """Error of held-out graphs as a graph neural network, density, and C and L predict it.

    The network sees nothing but the graph: nodes carry their degree (``degree``), or also the
    chances that a random walk is back after 2 to 8 steps (``walks``), without which rounds of
    message passing cannot count triangles and so cannot know C.

    Args:
        table: a tidy table; the baseline is left out.
        test_share: of the graphs, drawn at random, on which all predictors are compared.
        epochs: of the network's training.
        hidden: its channels per node.
        rounds: its depth.
        seed: of the draw, the initial parameters and the order of training.
        graphs: those of the table by name, if they are at hand; else they are made.

    Returns:
        A row a predictor: ``predictor``, ``r2`` on the held-out graphs with ``r2_low`` and
        ``r2_high`` (95 % over resampled graphs), ``trained_on`` and ``tested_on`` (graphs).

    Raises:
        InputError: a share outside (0, 1) or one that leaves fewer than two graphs on a side, or
            fewer than 40 graphs that can be made.

    Source of the walks: Dwivedi et al., Graph neural networks with learnable structural and
    positional representations, ICLR 2022.

    Example:
        >>> from mpnn_arch.analysis import load_results, predict_from_graphs
        >>> table = predict_from_graphs(load_results("results.csv"), epochs=1, hidden=4)
        >>> sorted(table["tested_on"].unique())
        [np.int64(13)]
    """
    test_share = check_range("test_share", test_share, 1e-9, 1 - 1e-9)
    epochs, rounds = check_whole("epochs", epochs, 1, 10**6), check_whole("rounds", rounds, 1, 1000)
    hidden = check_whole("hidden", hidden, 1, 10**5)
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    rows = with_density(per_graph(without_baseline(table)))
    by_name = rebuild(rows)[0] if graphs is None else as_named_graphs(graphs)
    rows = rows[rows["graph"].isin(list(by_name))].reset_index(drop=True)
    if len(rows) < 40:
        raise InputError(
            f"40 graphs or more that can be made are needed to hold some out, not {len(rows)}; "
            "give more"
        )
    held_out = round(test_share * len(rows))
    if not 2 <= held_out <= len(rows) - 2:
        raise InputError(
            f"test_share {test_share:g} holds out {held_out} of {len(rows)} graphs; choose one "
            "that leaves two or more to train on and to test on"
        )
    errors = rows["mean"].to_numpy(dtype=np.float64)
    test: Flags = np.random.default_rng(seed).permutation(len(rows)) < held_out
    density, plane = density_features(rows), plane_features(rows)
    predicted = {
        "density": _least_squares(density, errors, test),
        "quadratic in C and L": _least_squares(plane, errors, test),
        "quadratic and density": _least_squares(np.hstack([density, plane]), errors, test),
    }
    listed = [by_name[name] for name in rows["graph"]]
    encodings: tuple[Encoding, ...] = ("degree", "walks")
    for encoding in encodings:
        predicted[f"graph network, {encoding}"] = _network(
            listed, errors, test, encoding, epochs, hidden, rounds, seed
        )
    scores = [
        (
            name,
            explained(values, errors[test]),
            *explained_interval(values, errors[test], seed=seed),
            int((~test).sum()),
            int(test.sum()),
        )
        for name, values in predicted.items()
    ]
    columns = ["predictor", "r2", "r2_low", "r2_high", "trained_on", "tested_on"]
    return pd.DataFrame(scores, columns=columns)


def node_features(graph: RelationalGraph, encoding: Encoding) -> Array:
    """(N, features): what a node knows before the first round.

    Raises:
        InputError: no such encoding.
    """
    linked = graph.adjacency.astype(np.float64)
    np.fill_diagonal(linked, 0)
    degree = linked.sum(axis=1)
    if encoding == "degree":
        return degree[:, None]
    if encoding != "walks":
        raise InputError(f"there is no encoding {encoding!r} of nodes; choose degree or walks")
    step = linked / degree.clip(min=1)[:, None]
    back, power = [], step
    for _ in range(2, WALKS + 1):
        power = power @ step
        back.append(power.diagonal())
    return np.stack([degree, *back], axis=1)


def _least_squares(features: Array, errors: Array, test: Flags) -> Array:
    fitted = LinearRegression().fit(features[~test], errors[~test])
    predicted: Array = fitted.predict(features[test])
    return predicted


def _network(
    graphs: list[RelationalGraph],
    errors: Array,
    test: Flags,
    encoding: Encoding,
    epochs: int,
    hidden: int,
    rounds: int,
    seed: int,
) -> Array:
    generator = torch.Generator().manual_seed(seed)
    values = np.stack([node_features(graph, encoding) for graph in graphs])
    seen = values[~test].reshape(-1, values.shape[-1])
    spread = np.where(seen.std(axis=0) > 0, seen.std(axis=0), 1.0)
    x = torch.from_numpy((values - seen.mean(axis=0)) / spread).float()
    centre, scale = errors[~test].mean(), errors[~test].std() or 1.0
    target = torch.from_numpy((errors - centre) / scale).float()
    edges = [torch.from_numpy(graph.edges.copy()) for graph in graphs]
    train = torch.from_numpy(np.flatnonzero(~test))

    network = ErrorPredictor(x.shape[-1], hidden, rounds, generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        order = train[torch.randperm(len(train), generator=generator)]
        for batch in order.split(64):
            if len(batch) < 2:
                continue
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(_apply(network, x, edges, batch), target[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        parts = torch.from_numpy(np.flatnonzero(test)).split(64)
        out = torch.cat([_apply(network, x, edges, batch) for batch in parts])
    predicted: Array = out.double().numpy() * scale + centre
    return predicted


def _apply(network: nn.Module, x: Tensor, edges: list[Tensor], batch: Tensor) -> Tensor:
    num_nodes = x.shape[1]
    union = torch.cat([edges[i] + b * num_nodes for b, i in enumerate(batch.tolist())], dim=1)
    value: Tensor = network(x[batch], union)
    return value
