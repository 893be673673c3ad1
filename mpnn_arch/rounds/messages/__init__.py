"""Message functions: f_vu(x_u), the message from node u to node v.

One function per file. A new one subclasses :class:`MessageFunction` and may be registered by name.
"""

from mpnn_arch.rounds.messages.affine import AffineMessage
from mpnn_arch.rounds.messages.attention import AttentionMessage, SharedAttentionMessage
from mpnn_arch.rounds.messages.base import (
    MessageFunction,
    make_message,
    message_functions,
)
from mpnn_arch.rounds.messages.bilinear import BilinearMessage
from mpnn_arch.rounds.messages.conv import ConvMessage
from mpnn_arch.rounds.messages.edge_mlp import EdgeMLPMessage
from mpnn_arch.rounds.messages.edge_product import ALL_EDGES, EdgeProduct
from mpnn_arch.rounds.messages.gated import GatedMessage
from mpnn_arch.rounds.messages.linear import LinearMessage
from mpnn_arch.rounds.messages.low_rank import LowRankMessage
from mpnn_arch.rounds.messages.scalar import ScalarMessage
from mpnn_arch.rounds.messages.separable_conv import SeparableConvMessage
from mpnn_arch.rounds.messages.shared import (
    IdentityMessage,
    SharedConvMessage,
    SharedLinearMessage,
)

__all__ = [
    "ALL_EDGES",
    "AffineMessage",
    "AttentionMessage",
    "BilinearMessage",
    "ConvMessage",
    "EdgeMLPMessage",
    "EdgeProduct",
    "GatedMessage",
    "IdentityMessage",
    "LinearMessage",
    "LowRankMessage",
    "MessageFunction",
    "ScalarMessage",
    "SeparableConvMessage",
    "SharedAttentionMessage",
    "SharedConvMessage",
    "SharedLinearMessage",
    "make_message",
    "message_functions",
]
