"""One round of message exchange, as a PyTorch Geometric ``MessagePassing`` module."""

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
    "message_functions",
]
