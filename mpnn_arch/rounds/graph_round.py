"""The round whose graph comes with the input: a graph neural network's layer."""

# Annotations stay real objects here: PyG inspects the signatures of `message` and its siblings.
from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.rounds.initial_scale import reset_round
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import MessageFunction
from mpnn_arch.rounds.state_dict import forget_graph

_ONE_NODE = RelationalGraph(1, [[0], [0]])


class GraphRound(MessageRound):
    r"""A round along the edges of its input, with one message function for all edges

    .. math::
        x_v' = \sigma(\textstyle\sum_{u \in N(v)} f(x_u)).

    This is the paper's Equation 6: a layer of a graph neural network is the round whose f is
    shared. Every node has all channels, not a share of them.

    Args:
        in_channels: of every node.
        out_channels: of every node.
        message: a message function whose parameters all edges share, such as ``"shared_linear"``,
            ``"shared_attention"`` or ``"identity"``.
        **kwargs: as for :class:`MessageRound`, except the graph.

    Shapes:
        - **x:** (..., N, C_in), **edge_index:** (2, E), in any order, **edge_weight:** (E,) or None
        - **output:** (..., N, C_out)

    Raises:
        InputError: as for :class:`MessageRound`, a message with parameters on every edge, or edges
            that do not fit the nodes.

    Source: You, Leskovec, He, Xie, *Graph Structure of Neural Networks*, ICML 2020, section 2.2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        message: str | type[MessageFunction] = "shared_linear",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        # Message and update are built for a graph of one node with a self-loop.
        super().__init__(_ONE_NODE, in_channels, out_channels, message, *args, **kwargs)
        forget_graph(self)
        if not self.message_function.shared:
            raise InputError(
                f"{type(self.message_function).__name__} has parameters on every edge, so the "
                "round needs its graph in the constructor: use RelationalLinear or FusedRound, or "
                "a shared message such as 'shared_linear' or 'shared_attention'"
            )

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """One round along ``edge_index``."""
        edge_index = _check_edges(x, edge_index, self.in_channels)
        num_nodes = x.shape[-2]
        if (edge_index[1].diff() < 0).any():
            order = edge_index[1].argsort(stable=True)
            edge_index = edge_index[:, order]
            edge_weight = None if edge_weight is None else edge_weight[order]
        rows = x.reshape(-1, self.in_channels)  # (B * N, C_in)
        out = self.propagate(
            edge_index,
            size=(num_nodes, num_nodes),
            x=rows.view(-1, num_nodes, self.in_channels).transpose(0, 1),
            residual=rows if self.residual else None,
            edge_weight=edge_weight,
        )
        return out.view(*x.shape[:-1], out.shape[-1])

    def message(  # type: ignore[override]
        self, x_j: Tensor, x_i: Tensor, index: Tensor, edge_weight: OptTensor
    ) -> Tensor:
        """f(x_u), times the edge's weight: (E, B, C_in) -> (E, B, C_out)."""
        messages = super().message(x_j, x_i, index)
        return messages if edge_weight is None else messages * edge_weight.view(-1, 1, 1)

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """AGG at every node: (E, B, C_out) -> (B * N, C_out)."""
        return as_rows(self.aggregate_shares(inputs, index, dim_size))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw all parameters; the scale cannot depend on the degrees, which are unknown."""
        reset_round(self, generator, by_degree=False)


def as_rows(nodes: Tensor) -> Tensor:
    """(N, B, C) -> (B * N, C), sample by sample."""
    return nodes.transpose(0, 1).flatten(0, 1)


def _check_edges(x: Tensor, edge_index: Tensor | None, in_channels: int) -> Tensor:
    if edge_index is None:
        raise InputError("the graph of this round comes with the input: call round(x, edge_index)")
    if x.dim() < 2 or x.shape[-1] != in_channels:
        raise InputError(f"this round takes (..., N, {in_channels}), not {tuple(x.shape)}")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.is_floating_point():
        raise InputError(
            f"an edge_index is (2, E) integers, this one is {tuple(edge_index.shape)} of "
            f"{edge_index.dtype}; row 0 contains sources, row 1 targets"
        )
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < x.shape[-2]:
        worst = edge_index.min() if edge_index.min() < 0 else edge_index.max()
        raise InputError(
            f"the edge_index names node {int(worst)}, x has nodes 0 to {x.shape[-2] - 1}: give "
            "every node a row of x"
        )
    return edge_index
