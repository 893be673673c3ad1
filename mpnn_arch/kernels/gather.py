"""The gather backend: gather each node's input channels, then one batched matrix product.

Runs on any device, in every real dtype, and is the simplest form of a fused round. Every gradient
is again a gather and a product, never a scatter-add, so results are deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from mpnn_arch.kernels.dispatch.roofline import (
    INDEX_BYTES,
    Kernel,
    Machine,
    RoundSizes,
    padded,
)
from mpnn_arch.kernels.dispatch.tracing import untraced
from mpnn_arch.kernels.geometry import ConvGeometry, Pair
from mpnn_arch.kernels.memory import require_memory
from mpnn_arch.kernels.plan import RoundPlan

DTYPES = None
DIFFERENTIABLE = False
ADDS_BIAS = True


def unavailable_reason() -> str:
    """Empty: it runs on any machine."""
    return ""


def device_type() -> None:
    """None: any device."""


def step_kernels(sizes: RoundSizes, machine: Machine) -> list[Kernel]:
    """A copy of every node's input, a copy of the weights, and a batched product; or node by node.

    The copies are of mean lists: padding to the longest is left out. The library pads a node's
    share to its smallest tile.
    """
    kernels: list[Kernel] = []
    forward = sizes.fan_in, sizes.largest_out, sizes.in_channels, sizes.out_channels
    backward = sizes.fan_out, sizes.largest_in, sizes.out_channels, sizes.in_channels
    node_by_node = sizes.taps > 1
    for length, share, read, written in (forward, backward, forward):  # last, for the weights
        rows = padded(share, machine.dense_tiles[-1])
        numbers = sizes.columns * sizes.number_bytes
        gathered = sizes.nodes * length * numbers
        outside = (read + written) * numbers
        product = Kernel(
            products=sizes.nodes * rows * length * sizes.columns * sizes.kernel_numbers,
            bytes=gathered + written * numbers + sizes.weight_bytes,
            tile="batched",
        )
        if node_by_node:  # each: the input gathered, the weights gathered, and its product
            one_node = Kernel(
                products=product.products / sizes.nodes,
                bytes=(2 * gathered + outside + 2 * sizes.weight_bytes) / sizes.nodes,
                tile="batched",
                launches=3,
            )
            kernels += [one_node] * sizes.nodes
            continue
        kernels += [
            Kernel(bytes=2 * outside, launches=4),  # layouts and padding, of input and output
            Kernel(bytes=2 * sizes.weight_bytes + INDEX_BYTES * sizes.weights),
            Kernel(bytes=gathered + read * numbers),
            product,
        ]
    return kernels


def worth_timing(device: str, kernel: Sequence[int]) -> bool:
    """Only for 1 x 1 kernels.

    Larger ones are convolved node by node: 10 times slower in every measurement, and slow to time.
    """
    return max(kernel, default=1) == 1


@dataclass(frozen=True, eq=False)
class Walk:
    """Which channels and weights every node gathers, in the forward or the transposed product.

    Shapes, S the largest share and F the largest fan-in; shorter rows are padded with an index one
    past the end, where the caller appends a zero:
        - **channels:** (N * F,)
        - **weights:** (N * S * F,)
        - **merge:** (channels,) position of each output channel in the (N * S,) padded shares
        - **real:** (num_weights,) position of each weight in (N, S, F)
        - **sizes**, **widths:** N numbers, each node's share and its fan-in
    """

    channels: Tensor
    weights: Tensor
    merge: Tensor
    real: Tensor
    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    largest: int
    longest: int
    padded: bool

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.sizes)


# Cached outside the plan, so that it is copied and pickled without them.
_WALKS: WeakKeyDictionary[RoundPlan, tuple[Walk, Walk]] = WeakKeyDictionary()


def walks(plan: RoundPlan) -> tuple[Walk, Walk]:
    """The walks of the forward and the transposed product; built on the first call."""
    pair = _WALKS.get(plan)
    if pair is None:
        with untraced():
            pair = _WALKS[plan] = _make(plan, transposed=False), _make(plan, transposed=True)
    return pair


def prepare(plan: RoundPlan) -> None:
    """Build both walks, unless the round is a plain dense layer.

    Raises:
        InputError: they cannot fit into memory.
    """
    if not plan.is_complete:
        walks(plan)


def release(plan: RoundPlan) -> None:
    """Drop the walks of ``plan``; the next call rebuilds them."""
    _WALKS.pop(plan, None)


def _make(plan: RoundPlan, *, transposed: bool) -> Walk:
    source, target = plan.source.cpu().numpy(), plan.target.cpu().numpy()
    fan_in = plan.fan_in.cpu().numpy()
    start = plan.weight_offset.cpu().numpy()[target] + plan.edge_column.cpu().numpy()
    read, written = plan.in_offsets.cpu().numpy(), plan.out_offsets.cpu().numpy()
    if transposed:
        source, target, read, written = target, source, written, read
    sizes, fetched = np.diff(written), np.diff(read)
    widths = np.bincount(target, weights=fetched[source], minlength=plan.num_nodes).astype(int)
    largest, longest = int(sizes.max()), int(widths.max())
    require_memory(
        8 * plan.num_nodes * longest * (largest + 1),
        "cpu",
        "the gather backend's tables, padded to the largest share and fan-in,",
        "use backend='auto', 'cpu' or 'triton'",
    )
    channels = np.full((plan.num_nodes, longest), read[-1])
    weights = np.full((plan.num_nodes, largest, longest), plan.num_weights)
    column = np.zeros(plan.num_nodes, dtype=int)
    for edge in range(len(source)):
        u, v = source[edge], target[edge]
        block = slice(column[v], column[v] + fetched[u])
        channels[v, block] = np.arange(read[u], read[u + 1])
        # An edge's block always lies in the rows and columns of the receiver's weights.
        receiver = u if transposed else v
        row, across = np.arange(sizes[v])[:, None], np.arange(fetched[u])
        if transposed:
            row, across = across, row
        weights[v, : sizes[v], block] = start[edge] + row * fan_in[receiver] + across
        column[v] = block.stop
    flat = weights.reshape(-1)
    position = np.flatnonzero(flat < plan.num_weights)
    real = np.empty(plan.num_weights, dtype=int)
    real[flat[position]] = position
    merge = np.concatenate([v * largest + np.arange(size) for v, size in enumerate(sizes)])

    def table(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(plan.device)

    return Walk(
        table(channels.reshape(-1)),
        table(flat),
        table(merge),
        table(real),
        tuple(sizes.tolist()),
        tuple(widths.tolist()),
        largest,
        longest,
        padded=len(position) < len(flat),
    )


# -- channel-major products, which linear rounds and 1 x 1 convolutions share ----------------


def _fetch(x: Tensor, walk: Walk) -> Tensor:
    """(channels, M) -> (N, F, M), the input channels of every node."""
    if walk.padded:
        x = torch.cat([x, x.new_zeros(1, x.shape[1])])
    return x.index_select(0, walk.channels).unflatten(0, (walk.num_nodes, walk.longest))


def _product(x: Tensor, weight: Tensor, walk: Walk, bias: Tensor | None = None) -> Tensor:
    """(channels, M) -> (channels, M), along ``walk``; ``bias`` is added before rounding."""
    if walk.padded:
        weight = F.pad(weight, [0, 1])
    blocks = weight.index_select(0, walk.weights)
    blocks = blocks.view(walk.num_nodes, walk.largest, walk.longest)
    fetched = _fetch(x, walk)
    if bias is None:
        out = torch.bmm(blocks, fetched)
    else:
        shares = bias.new_zeros(walk.num_nodes * walk.largest).index_copy(0, walk.merge, bias)
        shares = shares.view(walk.num_nodes, walk.largest, 1)
        out = torch.baddbmm(shares, blocks, fetched)
    return out.flatten(0, 1).index_select(0, walk.merge)


def _weight_product(grad: Tensor, x: Tensor, walk: Walk) -> Tensor:
    """(C_out, M), (C_in, M) -> (num_weights,)."""
    if walk.num_nodes * walk.largest != grad.shape[0]:
        shares = grad.new_zeros(walk.num_nodes * walk.largest, grad.shape[1])
        grad = shares.index_copy_(0, walk.merge, grad)
    shares = grad.reshape(walk.num_nodes, walk.largest, -1)
    return torch.bmm(shares, _fetch(x, walk).transpose(1, 2)).flatten().index_select(0, walk.real)


def linear_forward(
    x: Tensor, weight: Tensor, plan: RoundPlan, bias: Tensor | None = None
) -> Tensor:
    """(B, C_in), (num_weights,) -> (B, C_out)."""
    return _product(x.t(), weight, walks(plan)[0], bias).t().contiguous()


def linear_grad_input(grad: Tensor, weight: Tensor, plan: RoundPlan) -> Tensor:
    """(B, C_out), (num_weights,) -> (B, C_in)."""
    return _product(grad.t(), weight, walks(plan)[1]).t().contiguous()


def linear_grad_weight(grad: Tensor, x: Tensor, plan: RoundPlan) -> Tensor:
    """(B, C_out), (B, C_in) -> (num_weights,)."""
    return _weight_product(grad.t(), x.t(), walks(plan)[0])


# -- convolutions: 1 x 1 kernels as a product over pixels, larger ones node by node ----------


def conv2d_forward(
    x: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    bias: Tensor | None = None,
) -> Tensor:
    """(B, C_in, H, W), (num_weights, K, K) -> (B, C_out, H', W')."""
    if _is_pointwise(weight.shape[1:], stride, padding):
        out = _product(_pixels(x), weight.flatten(), walks(plan)[0], bias)
        return _pixels_back(out, x.shape)
    geometry = ConvGeometry((weight.shape[1], weight.shape[2]), stride, padding, dilation)
    space = geometry.output_size(x.shape[2:])
    walk = walks(plan)[0]
    shares = [None] * plan.num_nodes if bias is None else bias.split(walk.sizes)
    parts = []
    for share, size, (channels, entries) in zip(shares, walk.sizes, _nodes(walk), strict=True):
        if len(channels):
            read, kernels = x.index_select(1, channels), _kernels(weight, entries)
            parts.append(F.conv2d(read, kernels, share, stride, padding, dilation))
            continue
        part = x.new_zeros(x.shape[0], size, *space)  # no edge leads to this node
        parts.append(part if share is None else part + share.view(-1, 1, 1))
    return torch.cat(parts, dim=1).contiguous()


def conv2d_grad_input(
    grad: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    input_size: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """(B, C_out, H', W'), (num_weights, K, K) -> (B, C_in, H, W)."""
    if _is_pointwise(weight.shape[1:], stride, padding):
        out = _product(_pixels(grad), weight.flatten(), walks(plan)[1])
        return _pixels_back(out, grad.shape)
    walk = walks(plan)[1]
    parts = []
    for size, (channels, entries) in zip(walk.sizes, _nodes(walk), strict=True):
        shape = (grad.shape[0], size, *input_size[-2:])
        if not len(channels):  # no edge leaves this node
            parts.append(grad.new_zeros(shape))
            continue
        parts.append(
            conv_grad.conv2d_input(
                shape,
                _kernels(weight, entries).transpose(0, 1),
                grad.index_select(1, channels),
                stride,
                padding,
                dilation,
            )
        )
    return torch.cat(parts, dim=1).contiguous()


def conv2d_grad_weight(
    grad: Tensor,
    x: Tensor,
    plan: RoundPlan,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """(B, C_out, H', W'), (B, C_in, H, W) -> (num_weights, K, K)."""
    if _is_pointwise(kernel_size, stride, padding):
        out = _weight_product(_pixels(grad), _pixels(x), walks(plan)[0])
        return out.view(-1, 1, 1)
    walk = walks(plan)[0]
    parts = []
    for share, (channels, _) in zip(grad.split(walk.sizes, dim=1), _nodes(walk), strict=True):
        if not len(channels):
            continue
        part = conv_grad.conv2d_weight(
            x.index_select(1, channels),
            (share.shape[1], len(channels), *kernel_size),
            share,
            stride,
            padding,
            dilation,
        )
        parts.append(part.reshape(-1, *kernel_size))
    return torch.cat(parts)


def _is_pointwise(kernel: tuple[int, ...] | torch.Size, stride: Pair, padding: Pair) -> bool:
    return tuple(kernel) == (1, 1) and tuple(stride) == (1, 1) and tuple(padding) == (0, 0)


def _pixels(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (C, B * H * W)."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def _pixels_back(x: Tensor, like: torch.Size) -> Tensor:
    """(C, B * H * W) -> (B, C, H, W)."""
    return x.view(x.shape[0], like[0], *like[2:]).transpose(0, 1).contiguous()


def _nodes(walk: Walk) -> Iterator[tuple[Tensor, Tensor]]:
    """For every node: the channels that it gathers, and (size, fan-in) positions of its weights."""
    channels = walk.channels.view(walk.num_nodes, walk.longest)
    table = walk.weights.view(walk.num_nodes, walk.largest, walk.longest)
    for v, (size, width) in enumerate(zip(walk.sizes, walk.widths, strict=True)):
        yield channels[v, :width], table[v, :size, :width]


def _kernels(weight: Tensor, entries: Tensor) -> Tensor:
    """The (size, fan-in, K, K) kernels at these positions of (num_weights, K, K)."""
    return weight.index_select(0, entries.flatten()).view(*entries.shape, *weight.shape[1:])
