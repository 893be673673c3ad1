"""``nn.Conv1d`` on a relational graph."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.rounds import RelationalConv2d
from mpnn_arch.rounds.given_parts import check_geometry


class RelationalConv1d(nn.Module):
    """``nn.Conv1d`` as a round: a sequence is a map of height 1.

    Args:
        graph: along whose edges the messages flow, or its specification.
        in_channels, out_channels: total numbers of channels.
        kernel_size, stride, padding, dilation: as for ``nn.Conv1d``; one number, or
            ``"same"`` or ``"valid"`` as padding.
        **kwargs: as for :class:`~mpnn_arch.rounds.RelationalConv2d`.

    Shapes:
        - **x:** (B, in_channels, W) or (in_channels, W)
        - **output:** (B, out_channels, W') or (out_channels, W')

    Raises:
        InputError: as for :class:`~mpnn_arch.rounds.RelationalConv2d`.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.models.relationalize import RelationalConv1d
        >>> layer = RelationalConv1d(graphs.ring(4, 2), 8, 16, kernel_size=3, padding=1)
        >>> layer(torch.zeros(2, 8, 100)).shape
        torch.Size([2, 16, 100])
    """

    def __init__(
        self,
        graph: GivenGraph,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = (kernel_size,), (stride,)
        self.padding = padding if isinstance(padding, str) else (padding,)
        self.dilation = (dilation,)
        self.round = RelationalConv2d(
            graph,
            in_channels,
            out_channels,
            (1, kernel_size),
            (1, stride),
            padding if isinstance(padding, str) else (0, padding),
            (1, dilation),
            **kwargs,
        )
        self.register_load_state_dict_pre_hook(_take_dense)

    def __setattr__(self, name: str, value: Any) -> None:
        check_geometry(self, name, value)
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, W) -> (B, C_out, W')."""
        # A transposed sequence would be a map by pixels, and so the output.
        return cast(Tensor, self.round(x.contiguous().unsqueeze(-2))).squeeze(-2)


def _take_dense(layer: RelationalConv1d, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take the state dict of an ``nn.Conv1d``: on the complete graph its weight fits the round."""
    if f"{prefix}weight" in state:
        state[f"{prefix}round.weight"] = state.pop(f"{prefix}weight").unsqueeze(-2)
        if f"{prefix}bias" in state:
            state[f"{prefix}round.bias"] = state.pop(f"{prefix}bias")
