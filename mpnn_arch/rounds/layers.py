"""``nn.Linear`` and ``nn.Conv2d`` on a relational graph."""

from typing import Any, cast

from torch import nn

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.relational_graph import RelationalGraph
from mpnn_arch.partition import ChannelPartition
from mpnn_arch.rounds.aggregations import Aggr
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.messages import MessageFunction


class RelationalLinear(MessageRound):
    r"""``nn.Linear`` on a relational graph: y_v = sum over u in N(v) of W_vu x_u, plus bias.

    On the complete graph it is ``nn.Linear``.

    Args:
        graph: who talks to whom.
        in_features: channels in all, or their partition over the nodes.
        out_features: likewise for the output.
        bias: whether every output channel has one.
        aggr: a PyG aggregation; see :class:`MessageRound`.
        backend: how it is computed; see :class:`MessageRound`.
        message: the message function.
        **kwargs: as for :class:`MessageRound`.

    Shapes:
        - **x:** (..., in_features)
        - **output:** (..., out_features)

    Raises:
        InputError: as for :class:`MessageRound`.
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
        """Channels in, as ``nn.Linear`` calls them."""
        return self.in_channels

    @property
    def out_features(self) -> int:
        """Channels out."""
        return self.out_channels

    @property
    def weight(self) -> nn.Parameter:
        """(num_weights,) the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`."""
        return cast(nn.Parameter, self.message_function.weight)


class RelationalConv2d(MessageRound):
    r"""``nn.Conv2d`` on a relational graph, with its own K x K kernels on every edge.

    Args:
        graph: who talks to whom.
        in_channels: maps in all, or their partition over the nodes.
        out_channels: likewise for the output.
        kernel_size: of the kernels, a number or (height, width).
        stride: likewise.
        padding: likewise, or ``"valid"`` or ``"same"``.
        dilation: likewise.
        bias: whether every output map has one.
        aggr: a PyG aggregation; see :class:`MessageRound`.
        backend: how it is computed; see :class:`MessageRound`.
        message: the message function over maps.
        message_kwargs: further arguments of the message function.
        **kwargs: as for :class:`MessageRound`.

    Shapes:
        - **x:** (B, in_channels, H, W)
        - **output:** (B, out_channels, H', W')

    Raises:
        InputError: as for :class:`MessageRound`, or padding that does not fit.
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
        kernel, step, spread = _pair(kernel_size), _pair(stride), _pair(dilation)
        geometry = {
            "kernel_size": kernel,
            "stride": step,
            "padding": _padding(padding, kernel, step, spread),
            "dilation": spread,
        }
        super().__init__(
            graph,
            in_channels,
            out_channels,
            message=message,
            aggr=aggr,
            bias=bias,
            backend=backend,
            message_kwargs=geometry | (message_kwargs or {}),
            **kwargs,
        )
        self.kernel_size, self.stride, self.dilation = kernel, step, spread
        self.padding = geometry["padding"]

    @property
    def weight(self) -> nn.Parameter:
        """(num_weights, K, K) the kernels of every edge; see :mod:`mpnn_arch.kernels.plan`."""
        return cast(nn.Parameter, self.message_function.weight)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output maps for input maps of this size."""
        made = [
            (size + 2 * pad - spread * (kernel - 1) - 1) // step + 1
            for size, pad, spread, kernel, step in zip(
                (height, width),
                self.padding,
                self.dilation,
                self.kernel_size,
                self.stride,
                strict=True,
            )
        ]
        return made[0], made[1]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _padding(
    padding: int | tuple[int, int] | str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    if not isinstance(padding, str):
        return _pair(padding)
    if padding == "valid":
        return (0, 0)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same" and stride == (1, 1) and not any(r % 2 for r in reach):
        return (reach[0] // 2, reach[1] // 2)
    raise InputError(
        f"padding {padding!r} does not fit kernel {kernel} with stride {stride}; give numbers, "
        "'valid', or 'same' with stride 1 and odd kernels"
    )
