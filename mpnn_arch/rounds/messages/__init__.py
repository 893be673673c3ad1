"""Message functions: what node u tells node v along an edge, f_vu(x_u).

One idea a file. A new one subclasses :class:`MessageFunction`; registered by name, it can be chosen
wherever a round is made.
"""

from mpnn_arch.rounds.messages.base import (
    MessageFunction,
    make_message,
    message_functions,
)
from mpnn_arch.rounds.messages.conv import ConvMessage
from mpnn_arch.rounds.messages.edge_product import ALL_EDGES, EdgeProduct
from mpnn_arch.rounds.messages.linear import LinearMessage

__all__ = [
    "ALL_EDGES",
    "ConvMessage",
    "EdgeProduct",
    "LinearMessage",
    "MessageFunction",
    "make_message",
    "message_functions",
]
