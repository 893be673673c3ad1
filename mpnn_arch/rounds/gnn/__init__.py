"""Graph neural networks: the same round, with shared messages and the graph as input.

The paper's Equation 6 is Equation 1 with f shared by all edges and the graph given with the data.
Each layer here is a :class:`~mpnn_arch.rounds.graph_round.GraphRound`, one per file; ``from_pyg``
takes over PyG's layer of the same name.
"""

from collections.abc import Callable

from torch import nn

from mpnn_arch.registry import Registry
from mpnn_arch.rounds.gnn.gat import GAT
from mpnn_arch.rounds.gnn.gcn import GCN
from mpnn_arch.rounds.gnn.gin import GIN, GINE
from mpnn_arch.rounds.gnn.graph import Graph
from mpnn_arch.rounds.gnn.sage import SAGE
from mpnn_arch.rounds.gnn.tie import tie, untie
from mpnn_arch.rounds.graph_round import GraphRound

__all__ = ["GAT", "GCN", "GIN", "GINE", "SAGE", "Graph", "gnn_layers", "tie", "untie"]

gnn_layers: Registry[Callable[[int, int], GraphRound]] = Registry("GNN layer")


def _gin(in_channels: int, out_channels: int) -> GraphRound:
    network = nn.Sequential(
        nn.Linear(in_channels, out_channels), nn.ReLU(), nn.Linear(out_channels, out_channels)
    )
    return GIN(in_channels, network)


gnn_layers.register("gcn")(GCN)
gnn_layers.register("sage")(SAGE)
gnn_layers.register("sage_max")(lambda i, o: SAGE(i, o, "max"))
gnn_layers.register("gin")(_gin)
gnn_layers.register("graph")(Graph)
gnn_layers.register("gat")(GAT)
