"""The building block of most messages: a product with a matrix, or kernels, per edge.

Its weights lie edge by edge; :mod:`mpnn_arch.rounds.messages` says why others lie by node.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.tracing import jit_tracing
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.memory import require_memory
from mpnn_arch.kernels.plan import TABLE_BYTES, RoundPlan
from mpnn_arch.rounds.messages.edge_convolution import conv_by_edge
from mpnn_arch.rounds.messages.initial import fill_uniform, new_parameter
from mpnn_arch.rounds.messages.vector_norms import refuse_vector_norms

ALL_EDGES = slice(None)


class EdgeProduct(nn.Module):
    r"""y_e = W_e x_e (+ b_e) on every edge e = (u -> v), or W_e * x_e over maps.

    W_e is (rows_e, columns_e), by default (size_v, size_u). The vector ``weight`` holds the
    entries of all of them, edge by edge and row by row; an entry is a K x K kernel over maps.

    Args:
        plan: index tensors of the round.
        geometry: of the convolution over maps; None for vectors.
        rows: (E,) output channels on each edge, or one number for all edges; None for the
            receiver's share.
        columns: likewise input channels; None for the sender's share.
        bias: whether b_e is added, different on every edge.
        device, dtype: of the parameters.

    Shapes:
        - **x:** (E, B, largest columns, ...); by default those of the largest share of a node
        - **output:** (E, B, largest rows, ...)
        - **weight:** (sum of rows_e * columns_e,) or (..., K, K); **bias:** (sum of rows_e,)

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds.messages import EdgeProduct
        >>> plan = RelationalLinear(graphs.ring(4, 2), 8, 12).plan
        >>> product = EdgeProduct(plan)
        >>> product(torch.zeros(plan.num_edges, 5, 2)).shape, product.blocks().shape
        (torch.Size([12, 5, 3]), torch.Size([12, 3, 2]))
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        plan: RoundPlan,
        geometry: ConvGeometry | None = None,
        *,
        rows: Tensor | int | None = None,
        columns: Tensor | int | None = None,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        plan = plan.to("cpu")
        self.rows = _per_edge(rows, plan.out_sizes[plan.target])
        self.columns = _per_edge(columns, plan.in_sizes[plan.source])
        self.target = plan.target
        # The receiver's fan-in over all its edges, which sets the scale of a sum.
        fan_in = torch.zeros(plan.num_nodes, dtype=torch.int64, device="cpu")
        self.fan_in = fan_in.index_add(0, plan.target, self.columns)[plan.target]
        self.geometry = geometry
        # The node with the largest share may send to none.
        most = plan.largest_in if columns is None else int(self.columns.max())
        self.weight_index = _block_index(self.rows, self.columns, most)
        self.bias_index = _block_index(self.rows, torch.ones_like(self.rows), 1).squeeze(2)
        kernel = () if self.geometry is None else self.geometry.kernel_size
        sizes = (int((self.rows * self.columns).sum()), *kernel)
        self.weight = new_parameter(*sizes, device=device, dtype=dtype)
        num_rows = int(self.rows.sum())
        self.bias = (
            nn.Parameter(torch.empty(num_rows, device=device, dtype=dtype)) if bias else None
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move the index tensors along with the parameters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0, device=self.weight_index.device)).device
        if device.type != "meta":
            self.weight_index = self.weight_index.to(device)
            self.bias_index = self.bias_index.to(device)
        return self

    def reset_parameters(
        self,
        generator: torch.Generator | None = None,
        gain: Tensor | float = 1.0,
        fan_in: Tensor | None = None,
    ) -> None:
        """Uniform in +-gain/sqrt(fan_in); the bias likewise.

        Args:
            generator: source of randomness.
            gain: one factor, or (N,) one for the edges to each node.
            fan_in: (E,) terms per output; None for the receiver's fan-in over all its edges, so
                that the sum of the messages has the scale of ``nn.Linear``.
        """
        fan_in = self.fan_in if fan_in is None else fan_in
        area = 1 if self.geometry is None else self.geometry.area
        if isinstance(gain, Tensor):
            gain = gain[self.target]
        bound = gain * (fan_in * area).to(torch.float64).rsqrt()
        fill_uniform(self.weight, bound.repeat_interleave(self.rows * self.columns), generator)
        if self.bias is not None:
            fill_uniform(self.bias, bound.repeat_interleave(self.rows), generator)

    def blocks(self, edges: slice = ALL_EDGES) -> Tensor:
        """Every W_e, zero-padded: (E, largest rows, largest columns, ...).

        Raises:
            InputError: torch's ``spectral_norm`` or its like is applied to the flat weight.
        """
        refuse_vector_norms(self, "EdgeProduct", "register a parametrisation of your own instead")
        padding = [0, 0] * (self.weight.dim() - 1) + [0, 1]
        return F.pad(self.weight, padding)[self.weight_index[edges]]

    def forward(self, x: Tensor, edges: slice = ALL_EDGES) -> Tensor:
        """(E, B, largest columns, ...) -> (E, B, largest rows, ...).

        Raises:
            InputError: x of another shape, or on other edges than ``edges``.
        """
        blocks = self.blocks(edges)
        if not jit_tracing():
            self._check_input(x, *blocks.shape[:3])
        if self.geometry is None:
            out = torch.bmm(x, blocks.transpose(1, 2))
        else:
            out = conv_by_edge(x, blocks, self.geometry)
        if self.bias is not None:
            bias = F.pad(self.bias, [0, 1])[self.bias_index[edges]]
            out = out + bias.view(bias.shape[0], 1, bias.shape[1], *[1] * (out.dim() - 3))
        return out

    def _check_input(self, x: Tensor, num_edges: int, rows: int, columns: int) -> None:
        maps = "" if self.geometry is None else ", H, W"
        if x.dim() == 3 + 2 * bool(maps) and x.shape[0] == num_edges and x.shape[2] == columns:
            return
        advice = ""
        if x.dim() == 5 and not maps:
            advice = (
                ": over maps give it self.geometry, as in EdgeProduct(plan, self.geometry), or "
                "apply it to their means, x.mean((-2, -1))"
            )
        elif x.shape[0] != num_edges:
            advice = (
                ": a message that declares edges gets some at a time, and hands them on, as in "
                "self.product(x_j, edges)"
            )
        elif x.dim() > 2 and x.shape[2] == rows:
            advice = ": what another product returns has the receiver's channels, give columns="
        raise InputError(
            f"this EdgeProduct takes ({num_edges}, B, {columns}{maps}), a row for every edge, not "
            f"{tuple(x.shape)}{advice}"
        )

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """One per weight, and per output pixel over maps."""
        return self.weight.numel() * (1 if self.geometry is None else math.prod(spatial_size))

    def extra_repr(self) -> str:
        """Its parameters, for ``repr``."""
        return f"{self.weight.numel()} weights, bias={self.bias is not None}"


def _per_edge(channels: Tensor | int | None, default: Tensor) -> Tensor:
    if channels is None:
        return default
    return torch.full_like(default, channels) if isinstance(channels, int) else channels.cpu()


def _block_index(rows: Tensor, columns: Tensor, most_columns: int) -> Tensor:
    """(E, largest rows, most columns): the index of each edge's entries, edge by edge.

    Entries past a smaller block point one past the end, where the caller appends a zero.
    """
    most_rows = int(rows.max())
    require_memory(
        TABLE_BYTES * len(rows) * most_rows * most_columns,
        "cpu",
        "one block of indices per edge, as large as the largest,",
        "use fewer channels",
    )
    entries = rows * columns
    start = (entries.cumsum(0) - entries)[:, None, None]
    row = torch.arange(most_rows, device="cpu")[None, :, None]
    column = torch.arange(most_columns, device="cpu")[None, None, :]
    real = (row < rows[:, None, None]) & (column < columns[:, None, None])
    index = start + row * columns[:, None, None] + column
    return torch.where(real, index, int(entries.sum()))
