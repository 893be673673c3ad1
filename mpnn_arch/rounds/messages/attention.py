"""Messages with attention weights over the neighbours of the receiver."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import softmax

from mpnn_arch.checks import check_range, whole_number
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.tracing import plain_shape
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.messages.base import MessageFunction, message_functions
from mpnn_arch.rounds.messages.edge_product import EdgeProduct
from mpnn_arch.rounds.messages.initial import fill_uniform, new_parameter
from mpnn_arch.rounds.shares import own_channels


@message_functions.register("attention")
class AttentionMessage(MessageFunction):
    r"""f_vu = alpha_vu W_vu x_u, with weights of its own on every edge

    .. math::
        \alpha_{vu} = \mathrm{softmax}_{u \in N(v)}(
            \mathrm{LeakyReLU}(a_{vu} \cdot x_u + b_{vu} \cdot x_v)).

    Over maps, W_vu is a stack of kernels and the logits use the mean of every map.

    Args:
        plan: index tensors of the round.
        negative_slope: of the leaky relu.
        **kwargs: as for :class:`MessageFunction`.

    Shapes:
        - **value.weight:** (sum over edges of size_v * size_u,) or (..., K, K)
        - **source_logit.weight:** (sum over edges of size_u,)
        - **target_logit.weight:** (sum over edges of the receiver's input share,)
        - **x_j**, **x_i:** (E, B, largest_in, ...), **output:** (E, B, largest_out, ...)

    Source: Velickovic et al., *Graph Attention Networks*, ICLR 2018, here without shared weights.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8, message="attention")
        >>> layer(torch.zeros(3, 8)).shape
        torch.Size([3, 8])
    """

    def __init__(self, plan: RoundPlan, *, negative_slope: float = 0.2, **kwargs: Any) -> None:
        super().__init__(plan, **kwargs)
        self.negative_slope = check_range("negative_slope", negative_slope, -math.inf, math.inf)
        receiver = plan.in_sizes[plan.target]
        self.value = EdgeProduct(plan, self.geometry, **self.factory)
        self.source_logit = EdgeProduct(plan, None, rows=1, **self.factory)
        self.target_logit = EdgeProduct(plan, None, rows=1, columns=receiver, **self.factory)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Scales W with the number of neighbours, since their alphas sum to 1."""
        neighbours = self.plan.edge_ptr.diff().cpu()
        self.value.reset_parameters(generator, neighbours * self.initial_gain)
        for logit in (self.source_logit, self.target_logit):
            logit.reset_parameters(generator, fan_in=logit.columns)

    def forward(self, x_j: Tensor, x_i: Tensor, index: Tensor, edges: slice) -> Tensor:
        """(E, B, largest_in, ...) twice -> (E, B, largest_out, ...)."""
        logits = self.source_logit(_pooled(x_j), edges) + self.target_logit(_pooled(x_i), edges)
        logits = F.leaky_relu(logits, self.negative_slope)  # (E, B, 1)
        alpha = softmax(logits, index, num_nodes=self.plan.num_nodes)
        return self.value(x_j, edges) * alpha.view(*alpha.shape, *[1] * (x_j.dim() - 3))


@message_functions.register("shared_attention")
class SharedAttentionMessage(MessageFunction):
    r"""f_vu = alpha_vu W x_u with weights shared by all edges: the message of a GAT

    .. math::
        \alpha_{vu} = \mathrm{softmax}_{u \in N(v)}(
            \mathrm{LeakyReLU}(a \cdot W x_u + b \cdot W x_v)).

    Args:
        plan: index tensors of the round.
        heads: independent alphas, each with its part of W.
        concat: whether the heads' messages are concatenated, or averaged.
        negative_slope: of the leaky relu.
        dropout: probability that an edge's alpha is dropped in training.
        **kwargs: as for :class:`MessageFunction`.

    Shapes: H heads of D channels, H * D = largest_out with ``concat``, D = largest_out without
        - **weight:** (H * D, largest_in)
        - **source_logit**, **target_logit:** (H, D)
        - **x_j**, **x_i:** (E, B, largest_in), **output:** (E, B, largest_out)

    Raises:
        InputError: heads that are no integer, or do not divide the channels.

    Source: Velickovic et al., *Graph Attention Networks*, ICLR 2018.

    Example:
        >>> import torch
        >>> from mpnn_arch import GraphRound
        >>> layer = GraphRound(8, 6, "shared_attention", message_kwargs={"heads": 2})
        >>> layer(torch.zeros(3, 8), torch.tensor([[0, 1, 2], [1, 2, 0]])).shape
        torch.Size([3, 6])
    """

    shared = True
    maps_instead = "attention"

    def __init__(
        self,
        plan: RoundPlan,
        *,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(plan, **kwargs)
        heads = whole_number("the number of heads", heads)
        if concat and plan.largest_out % heads:
            raise InputError(
                f"{heads} heads cannot divide {plan.largest_out} channels equally; use a "
                "number of heads that divides the channels, or concat=False"
            )
        self.heads, self.concat = heads, concat
        self.negative_slope = check_range("negative_slope", negative_slope, -math.inf, math.inf)
        self.dropout = check_range("dropout", dropout, 0, 1)
        per_head = plan.largest_out // heads if concat else plan.largest_out
        width = heads * per_head
        self.weight = new_parameter(width, plan.largest_in, **self.factory)
        self.source_logit = nn.Parameter(torch.empty(heads, per_head, **self.factory))
        self.target_logit = nn.Parameter(torch.empty(heads, per_head, **self.factory))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Scales W so that the average by alpha keeps the scale of a share."""
        degree = self.plan.edge_ptr.diff().cpu().to(torch.float64)
        scale = float((degree * self.initial_gain.square()).mean().sqrt())
        fill_uniform(self.weight, scale / self.plan.largest_in**0.5, generator)
        for logit in (self.source_logit, self.target_logit):
            # The logits stay small, however large the messages.
            fill_uniform(logit, logit.shape[1] ** -0.5 / scale, generator)

    def forward(self, x_j: Tensor, x_i: Tensor, index: Tensor) -> Tensor:
        """(E, B, largest_in) twice -> (E, B, largest_out)."""
        senders, receivers = plain_shape(x_j)[2], plain_shape(x_i)[2]
        if senders != receivers:  # of a GraphRound with a pair of channels
            raise InputError(
                f"one W maps senders of {senders} channels, and not receivers of "
                f"{receivers}: use rounds.gnn.GAT, which has one for each"
            )
        h_j, h_i = (self._heads(x, index) for x in (x_j, x_i))  # (E, B, H, D)
        logits = (h_j * self.source_logit).sum(-1) + (h_i * self.target_logit).sum(-1)
        # A graph that comes with the input has any number of nodes, and this plan one.
        num_nodes = self.plan.num_nodes if self.plan.num_nodes > 1 else None
        alpha = softmax(F.leaky_relu(logits, self.negative_slope), index, num_nodes=num_nodes)
        alpha = F.dropout(alpha, self.dropout, self.training)
        messages = h_j * alpha.unsqueeze(-1)
        return messages.flatten(2) if self.concat else messages.mean(2)

    def _heads(self, x: Tensor, index: Tensor) -> Tensor:
        h = F.linear(x, self.weight)
        own = own_channels(index, self.plan) if self.concat else None
        if own is not None:  # a logit depends on the receiver's channels, not on the padding
            h = h * own[:, None]
        return h.unflatten(2, (self.heads, -1))

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """W and the logits once per node; the weighting once per edge."""
        per_node = self.weight.numel() + 2 * self.source_logit.numel()
        per_edge = self.weight.shape[0]
        return self.plan.num_nodes * per_node + self.plan.num_edges * per_edge


def _pooled(x: Tensor) -> Tensor:
    """The mean of every map; vectors are unchanged: (E, B, C, ...) -> (E, B, C)."""
    return x.flatten(3).mean(3) if x.dim() > 3 else x
