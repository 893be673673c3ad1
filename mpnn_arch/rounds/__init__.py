"""One round of message exchange, as a PyTorch Geometric ``MessagePassing`` module."""

from mpnn_arch.rounds.backend import export_choices, import_choices
from mpnn_arch.rounds.layers import RelationalConv2d, RelationalLinear
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import (
    ConvMessage,
    LinearMessage,
    MessageFunction,
    message_functions,
)

__all__ = [
    "ConvMessage",
    "LinearMessage",
    "MessageFunction",
    "MessageRound",
    "RelationalConv2d",
    "RelationalLinear",
    "export_choices",
    "import_choices",
    "message_functions",
]
