"""Node classification with a graph neural network of rounds, whose graph is an input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub

from mpnn_arch.errors import InputError
from mpnn_arch.rounds.gnn import gnn_layers


class NodeClassifier(nn.Module):
    """Two rounds with a ReLU between them: node features to class logits.

    Args:
        layer: name of a GNN layer, see ``mpnn_arch.rounds.gnn.gnn_layers``.
        in_features, hidden_features, num_classes: channels per node.
        seed: of the initial weights.

    Shapes:
        - **x:** (N, in_features), **edge_index:** (2, E), **output:** (N, num_classes)
    """

    def __init__(
        self, layer: str, in_features: int, hidden_features: int, num_classes: int, seed: int = 0
    ) -> None:
        super().__init__()
        make = gnn_layers.get(layer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = make(in_features, hidden_features)
            self.second = make(hidden_features, num_classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits of every node."""
        out: Tensor = self.second(self.first(x, edge_index).relu(), edge_index)
        return out


@dataclass(frozen=True, kw_only=True)
class NodeResult:
    """One training; ``accuracy`` is in percent of the nodes outside the training set."""

    layer: str
    seed: int
    accuracy: float
    train_loss: float
    parameters: int


def train_on_karate_club(
    layer: str,
    *,
    seed: int = 0,
    hidden_features: int = 16,
    epochs: int = 100,
    learning_rate: float = 0.01,
) -> NodeResult:
    """Train on one labelled member of each of the club's 4 communities; test on the other 30.

    Args:
        layer: name of a GNN layer.
        seed: of the initial weights.
        hidden_features: channels per node between the two rounds.
        epochs: steps, each over the whole graph.
        learning_rate: of Adam.

    Raises:
        InputError: an unknown layer, or fewer than 1 epoch or hidden feature.

    Source: Zachary, *An Information Flow Model for Conflict and Fission in Small Groups*, 1977,
    with the communities of Kipf and Welling, ICLR 2017.

    Example:
        >>> from mpnn_arch.training.nodes import train_on_karate_club
        >>> result = train_on_karate_club("gcn", seed=0, epochs=20)
        >>> 0 <= result.accuracy <= 100
        True
    """
    if epochs < 1 or hidden_features < 1:
        raise InputError(
            f"{epochs} epochs of {hidden_features} hidden features train nothing; use 1 or more"
        )
    data: Data = KarateClub()[0]
    num_classes = int(data.y.max()) + 1
    model = NodeClassifier(layer, data.num_features, hidden_features, num_classes, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=5e-4)
    for _ in range(epochs):
        logits = model(data.x, data.edge_index)
        loss = F.cross_entropy(logits[data.train_mask], data.y[data.train_mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        correct = model(data.x, data.edge_index).argmax(1) == data.y
    return NodeResult(
        layer=layer,
        seed=seed,
        accuracy=100 * correct[~data.train_mask].cpu().double().mean().item(),
        train_loss=float(loss.detach()),
        parameters=sum(p.numel() for p in model.parameters()),
    )
