"""From a layer's channels to the nodes' shares of them, and back."""

import torch.nn.functional as F
from torch import Tensor

from mpnn_arch.kernels.plan import RoundPlan


def split_shares(x: Tensor, plan: RoundPlan) -> Tensor:
    """Give every node its share of the channels.

    A share smaller than the largest is padded with zeros, so that PyG can lift node features
    along edges; the padding meets no weight.

    Shapes:
        - **x:** (B, C_in, ...)
        - **output:** (N, B, largest_in, ...)
    """
    if plan.in_channels != plan.num_nodes * plan.largest_in:
        padded = F.pad(x, [0, 0] * (x.dim() - 2) + [0, 1])
        x = padded.index_select(1, plan.in_index.flatten())
    return x.unflatten(1, (plan.num_nodes, plan.largest_in)).transpose(0, 1)


def merge_shares(shares: Tensor, plan: RoundPlan) -> Tensor:
    """Lay the nodes' shares side by side as the layer's output channels.

    Shapes:
        - **shares:** (N, B, largest_out, ...)
        - **output:** (B, C_out, ...)
    """
    x = shares.transpose(0, 1).flatten(1, 2)
    if plan.out_channels != plan.num_nodes * plan.largest_out:
        x = x.index_select(1, plan.out_index)
    return x
