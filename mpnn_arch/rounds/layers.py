"""``nn.Linear`` and ``nn.Conv2d`` on a relational graph."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch.checks import check_choice, whole_number
from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.kernels.dispatch.tracing import is_plain, jit_tracing
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.partition import ChannelPartition
from mpnn_arch.rounds.aggregations import Aggr
from mpnn_arch.rounds.fused_round import FusedRound
from mpnn_arch.rounds.given_parts import check_geometry, check_unchanged
from mpnn_arch.rounds.groups import copies, group_channels
from mpnn_arch.rounds.messages import MessageFunction
from mpnn_arch.rounds.shares import round_graph
from mpnn_arch.rounds.updates import check_kwargs


class RelationalLinear(FusedRound):
    r"""``nn.Linear`` on a relational graph: y_v = sum over u in N(v) of W_vu x_u, plus bias.

    On the complete graph it is ``nn.Linear``.

    Args:
        graph: along whose edges the messages flow, or its specification, as ``"ring:16,4"``.
        in_features: total number of channels, or their partition over the nodes.
        out_features: likewise for the output.
        bias: whether to add one per output channel.
        aggr: a PyG aggregation; see :class:`FusedRound`.
        backend: what computes it; see :class:`FusedRound`.
        message: the message function.
        device, dtype: of the parameters, as for ``nn.Linear``.
        **kwargs: as for :class:`FusedRound`.

    Shapes:
        - **x:** (..., in_features)
        - **output:** (..., out_features)

    Raises:
        InputError: as for :class:`FusedRound`.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> layer = RelationalLinear(graphs.complete(4), 65, 64)
        >>> x = torch.randn(3, 65, generator=torch.Generator().manual_seed(0))
        >>> torch.testing.assert_close(layer(x), x @ layer.dense_weight().T + layer.bias)
        >>> RelationalLinear(graphs.ring(4, 2), 64, 64).weight.numel()  # 12 of 16 blocks
        3072
    """

    def __init__(
        self,
        graph: GivenGraph,
        in_features: int | ChannelPartition,
        out_features: int | ChannelPartition,
        bias: bool = True,
        aggr: Aggr = "sum",
        backend: str = "auto",
        message: str | type[MessageFunction] = "linear",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            graph,
            in_features,
            out_features,
            message=message,
            aggr=aggr,
            bias=bias,
            backend=backend,
            device=device,
            dtype=dtype,
            **kwargs,
        )

    @property
    def in_features(self) -> int:
        """``in_channels``, under ``nn.Linear``'s name."""
        return self.in_channels

    @property
    def out_features(self) -> int:
        """``out_channels``, under ``nn.Linear``'s name."""
        return self.out_channels


class RelationalConv2d(FusedRound):
    r"""``nn.Conv2d`` on a relational graph, with its own K x K kernels on every edge.

    Args:
        graph: along whose edges the messages flow, or its specification, as ``"ring:16,4"``.
        in_channels: total number of maps, or their partition over the nodes.
        out_channels: likewise for the output.
        kernel_size: of the kernels, a number or (height, width).
        stride: likewise.
        padding: likewise, or ``"valid"`` or ``"same"``.
        dilation: likewise.
        bias: whether to add one per output map.
        aggr: a PyG aggregation; see :class:`FusedRound`.
        backend: what computes it; see :class:`FusedRound`.
        message: a message function over maps.
        message_kwargs: further arguments of the message function.
        groups: into which the channels are divided, as for ``nn.Conv2d``; each is a round of its
            own on ``graph``, so that the layer's graph is as many copies of it.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        device, dtype: of the parameters, as for ``nn.Conv2d``.
        **kwargs: as for :class:`FusedRound`.

    Shapes:
        - **x:** (B, in_channels, H, W)
        - **output:** (B, out_channels, H', W')

    Raises:
        InputError: as for :class:`FusedRound`, padding that does not fit, channels that the groups
            do not divide, or an option of ``nn.Conv2d`` that a round does not have.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalConv2d, graphs
        >>> layer = RelationalConv2d(graphs.ring(4, 2), 8, 16, kernel_size=3, stride=2, padding=1)
        >>> layer(torch.zeros(2, 8, 32, 32)).shape
        torch.Size([2, 16, 16, 16])
    """

    def __init__(
        self,
        graph: GivenGraph,
        in_channels: int | ChannelPartition,
        out_channels: int | ChannelPartition,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        aggr: Aggr = "sum",
        backend: str = "auto",
        message: str | type[MessageFunction] = "conv",
        message_kwargs: dict[str, Any] | None = None,
        *,
        groups: int = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("padding_mode", padding_mode, _FILLS)
        check_kwargs(message_kwargs=message_kwargs)
        geometry, margins = _margins(kernel_size, stride, padding, dilation, padding_mode)
        if whole_number("groups", groups) > 1:
            order = kwargs.get("order", "first")
            graph = round_graph(graph)
            in_channels = group_channels(in_channels, graph, groups, order, "input")
            out_channels = group_channels(out_channels, graph, groups, order, "output")
            graph = copies(graph, groups)
        super().__init__(
            graph,
            in_channels,
            out_channels,
            message=message,
            aggr=aggr,
            bias=bias,
            backend=backend,
            message_kwargs=geometry._asdict() | (message_kwargs or {}),
            device=device,
            dtype=dtype,
            **kwargs,
        )
        self.kernel_size, self.stride, _, self.dilation = geometry
        self.groups, self.padding_mode, self.margins = groups, padding_mode, margins
        # Margins are left, right, top, bottom.
        own = geometry.padding if margins is None else (margins[2], margins[0])
        self.padding: Pair | str = "same" if margins and isinstance(padding, str) else own

    def __setattr__(self, name: str, value: Any) -> None:
        check_geometry(self, name, value)
        if name == "message_function" and "padding" in vars(self):
            own = self.message_function.geometry
            check_unchanged(self, name, getattr(value, "geometry", own), own)
        super().__setattr__(name, value)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """One round, of maps that are padded first where the kernels' geometry cannot say how."""
        maps = x
        # Others are refused there, or a proxy of a tracer for which the layer is one call.
        known = self.margins is not None and isinstance(x, Tensor) and x.dim() in (3, 4)
        if known and (jit_tracing() or x.shape[-3] == self.in_channels):
            if residual is None and self.residual:
                residual = x
            maps = self.with_margins(x)
        return _laid_out_as(x, super().forward(maps, residual))

    def with_margins(self, x: Tensor) -> Tensor:
        """(..., C, H, W), padded by ``margins``: what the kernels see; x where they are None."""
        if self.margins is None:
            return x
        return F.pad(x, self.margins, _FILLS[self.padding_mode])

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output maps for input maps of this size.

        Raises:
            InputError: the kernel does not fit the maps.
        """
        geometry = self.message_function.geometry
        assert geometry is not None
        left, right, top, bottom = self.margins or (0, 0, 0, 0)
        return geometry.checked_output_size((height + top + bottom, width + left + right))


# nn.Conv2d's padding modes, under the names that F.pad has for them.
_FILLS = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


def _laid_out_as(x: Tensor, out: Tensor) -> Tensor:
    """``out`` pixel by pixel in memory where ``x`` is, as ``nn.Conv2d`` returns it."""
    if torch.compiler.is_compiling() or not isinstance(x, Tensor) or x.dim() != 4:
        return out
    if x.is_contiguous() or not is_plain(x, out):  # under vmap torch does not say
        return out
    by_pixel = x.is_contiguous(memory_format=torch.channels_last)
    return out.contiguous(memory_format=torch.channels_last) if by_pixel else out


def _margins(
    kernel_size: Any, stride: Any, padding: Any, dilation: Any, mode: str
) -> tuple[ConvGeometry, tuple[int, int, int, int] | None]:
    """The kernels' geometry, and what is padded before them: (left, right, top, bottom) or None.

    Kernels pad with zeros, the same on both sides. For other modes, and for ``"same"`` where the
    padding is an odd number, maps are padded first, as by ``nn.Conv2d``: one more on the right and
    at the bottom.
    """
    bare = ConvGeometry.of(kernel_size, stride, "valid", dilation)
    reach = [d * (k - 1) for d, k in zip(bare.dilation, bare.kernel_size, strict=True)]
    same = isinstance(padding, str) and padding == "same"
    uneven = same and bare.stride == (1, 1) and any(r % 2 for r in reach)
    geometry = bare if uneven else ConvGeometry.of(kernel_size, stride, padding, dilation)
    if not uneven and (mode == "zeros" or geometry.padding == (0, 0)):
        return geometry, None
    if uneven:
        before = reach[0] // 2, reach[1] // 2
        after = reach[0] - before[0], reach[1] - before[1]
    else:
        before = after = geometry.padding
    return bare, (before[1], after[1], before[0], after[0])
