"""``nn.Linear`` and ``nn.Conv2d`` on a relational graph."""

from typing import Any

from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.partition import ChannelPartition
from mpnn_arch.rounds.aggregations import Aggr
from mpnn_arch.rounds.fused_round import FusedRound
from mpnn_arch.rounds.messages import MessageFunction


class RelationalLinear(FusedRound):
    r"""``nn.Linear`` on a relational graph: y_v = sum over u in N(v) of W_vu x_u, plus bias.

    On the complete graph it is ``nn.Linear``.

    Args:
        graph: along whose edges the messages flow.
        in_features: total number of channels, or their partition over the nodes.
        out_features: likewise for the output.
        bias: whether to add one per output channel.
        aggr: a PyG aggregation; see :class:`FusedRound`.
        backend: what computes it; see :class:`FusedRound`.
        message: the message function.
        **kwargs: as for :class:`FusedRound`.

    Shapes:
        - **x:** (..., in_features)
        - **output:** (..., out_features)

    Raises:
        InputError: as for :class:`FusedRound`.
    """

    def __init__(
        self,
        graph: RelationalGraph,
        in_features: int | ChannelPartition,
        out_features: int | ChannelPartition,
        bias: bool = True,
        aggr: Aggr = "sum",
        backend: str = "auto",
        message: str | type[MessageFunction] = "linear",
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
        graph: along whose edges the messages flow.
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
        **kwargs: as for :class:`FusedRound`.

    Shapes:
        - **x:** (B, in_channels, H, W)
        - **output:** (B, out_channels, H', W')

    Raises:
        InputError: as for :class:`FusedRound`, or padding that does not fit.
    """

    def __init__(
        self,
        graph: RelationalGraph,
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
        **kwargs: Any,
    ) -> None:
        geometry = ConvGeometry.of(kernel_size, stride, padding, dilation)
        super().__init__(
            graph,
            in_channels,
            out_channels,
            message=message,
            aggr=aggr,
            bias=bias,
            backend=backend,
            message_kwargs=geometry._asdict() | (message_kwargs or {}),
            **kwargs,
        )
        self.kernel_size, self.stride, self.padding, self.dilation = geometry

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output maps for input maps of this size.

        Raises:
            InputError: the kernel does not fit the maps.
        """
        geometry = ConvGeometry(self.kernel_size, self.stride, self.padding, self.dilation)
        return geometry.checked_output_size((height, width))
