"""Neural-network layers as rounds of message passing on a relational graph.

Public names are imported on first access (PEP 562): ``import mpnn_arch`` imports neither torch nor
torch_geometric.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# public name -> the module it lives in
_HOME = {
    "ChannelPartition": "mpnn_arch.partition",
    "FusedRound": "mpnn_arch.rounds.fused_round",
    "GraphRound": "mpnn_arch.rounds.graph_round",
    "InputError": "mpnn_arch.errors",
    "MessageFunction": "mpnn_arch.rounds.messages",
    "MessageRound": "mpnn_arch.rounds.message_round",
    "RelationalConv2d": "mpnn_arch.rounds.layers",
    "RelationalGraph": "mpnn_arch.graphs.relational_graph",
    "RelationalLinear": "mpnn_arch.rounds.layers",
    "from_pretrained": "mpnn_arch.models.relationalize",
    "load": "mpnn_arch.models.saving",
    "relationalize": "mpnn_arch.models.relationalize",
    "save": "mpnn_arch.models.saving",
    "save_pretrained": "mpnn_arch.models.relationalize",
    "to_dense": "mpnn_arch.models.to_dense",
}
_SUBPACKAGES = ("analysis", "graphs", "kernels", "models", "rounds", "studies", "training")

__all__ = ["__version__", *_HOME, *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"mpnn_arch.{name}")
    raise AttributeError(f"module 'mpnn_arch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
