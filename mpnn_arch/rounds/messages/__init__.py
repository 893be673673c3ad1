"""Message functions: f_vu(x_u), the message from node u to node v.

One function per file. A new one subclasses :class:`MessageFunction` and may be registered by name.

Weights of their own on every edge are a vector of entries (K x K kernels over maps), in one of two
layouts:

- by node (:mod:`mpnn_arch.kernels.plan`; ``linear`` and ``conv``, whose ``plan_layout`` is true):
  the entries of the round's matrix (C_out, C_in) row by row, that is for every node one matrix over
  all that it receives. A kernel reads it as it lies, as one product per node, and on the complete
  graph it is the weight of ``nn.Linear``, whose state dicts load.
- by edge (:class:`EdgeProduct`; all others): one matrix an edge after another. These messages do
  something with the product of each edge (a gate, a bias, a second matrix) before they are summed,
  so that no product a node exists; nor do the sizes of their matrices have to be those of shares.

Messages with one weight for all edges (``shared_...``) have it as it is, and repeat it into the
layout by node where their sum is one product (``fusable``).
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
