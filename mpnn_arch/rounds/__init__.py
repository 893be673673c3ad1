"""One round of message exchange, as a PyTorch Geometric ``MessagePassing`` module."""

from mpnn_arch import pyg as _quiet  # noqa: F401  before PyG's own imports
from mpnn_arch.rounds.choices import export_choices, import_choices
from mpnn_arch.rounds.fused_round import FusedRound
from mpnn_arch.rounds.graph_round import GraphRound
from mpnn_arch.rounds.layers import RelationalConv2d, RelationalLinear
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import (
    ConvMessage,
    LinearMessage,
    MessageFunction,
    message_functions,
)
from mpnn_arch.rounds.on_matrix import initialise_matrix, on_matrix

__all__ = [
    "ConvMessage",
    "FusedRound",
    "GraphRound",
    "LinearMessage",
    "MessageFunction",
    "MessageRound",
    "RelationalConv2d",
    "RelationalLinear",
    "export_choices",
    "import_choices",
    "initialise_matrix",
    "message_functions",
    "on_matrix",
]
