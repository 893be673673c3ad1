"""Update functions, applied to every node's aggregate.

In order: norm, squeeze-and-excitation, residual, activation. They work on a layer's channels
(B, C, ...), the nodes' shares concatenated, and on the rows (B * N, C) of a graph neural network,
where every node has all channels: one share.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.resolver import activation_resolver

from mpnn_arch.checks import check_flag, shown, whole_number
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.tracing import jit_tracing, plain_shape
from mpnn_arch.partition import ChannelPartition
from mpnn_arch.registry import Registry

norms: Registry[Callable[[ChannelPartition, int], nn.Module]] = Registry("norm")


@norms.register("batch")
def batch_norm(partition: ChannelPartition, spatial_dims: int) -> nn.Module:
    """Batch normalisation of every channel."""
    norm = nn.BatchNorm2d if spatial_dims else nn.BatchNorm1d
    return norm(partition.num_channels)


@norms.register("layer")
def layer_norm(partition: ChannelPartition, spatial_dims: int) -> nn.Module:
    """Normalisation of every sample over all channels (and pixels)."""
    return nn.GroupNorm(1, partition.num_channels)


@norms.register("group")
def group_norm(partition: ChannelPartition, spatial_dims: int) -> nn.Module:
    """Normalisation of every sample over each node's share."""
    return NodeNorm(partition)


class NodeNorm(nn.Module):
    r"""Group normalisation with one group per node, of any sizes.

    Args:
        partition: the nodes' shares.
        eps: added to the variance.

    Shapes:
        - **weight**, **bias:** (C,)
        - **x** and **output:** (B, C, ...)

    Source: Wu, He, *Group Normalization*, ECCV 2018.

    Example:
        >>> import torch
        >>> from mpnn_arch import ChannelPartition
        >>> from mpnn_arch.rounds.updates import NodeNorm
        >>> norm = NodeNorm(ChannelPartition(7, 2))  # shares of 4 and 3 channels
        >>> x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
        >>> norm(x)[:, :4].mean(1).abs().max().item() < 1e-6
        True
    """

    def __init__(self, partition: ChannelPartition, eps: float = 1e-5) -> None:
        super().__init__()
        self.sizes, self.eps = partition.sizes, eps
        self.weight = nn.Parameter(torch.ones(partition.num_channels))
        self.bias = nn.Parameter(torch.zeros(partition.num_channels))

    def reset_parameters(self) -> None:
        """Scale by 1 and add 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        dtype = torch.promote_types(x.dtype, self.weight.dtype)
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()  # as `nn.GroupNorm` does: a variance past 65504 has no float16
        # Of no sample torch computes a variance with a warning for every share.
        is_empty = not (jit_tracing() or x.shape[0])
        normed = [x] if is_empty else [self._normed(s) for s in x.split(self.sizes, dim=1)]
        shape = (-1, *[1] * (x.dim() - 2))
        scaled = torch.cat(normed, dim=1) * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(dtype)

    def _normed(self, share: Tensor) -> Tensor:
        over = tuple(range(1, share.dim()))
        variance, mean = torch.var_mean(share, over, correction=0, keepdim=True)
        return (share - mean) * (variance + self.eps).rsqrt()


class SqueezeExcitation(nn.Module):
    r"""Every node's share times a number in (0, 1) that depends on all nodes.

    s = sigmoid(W2 relu(W1 z)), z_v the mean of node v's share. In a round whose graph is an
    input, a row is a node, and z and s are per channel: z is the mean over the nodes, and s scales
    each channel.

    Args:
        partition: the nodes' shares.
        reduction: ratio of the width to that of the hidden layer, at least 1.

    Shapes:
        - **x** and **output:** (B, C, ...)

    Raises:
        InputError: a reduction that is no integer of at least 1.

    Source: Hu, Shen, Sun, *Squeeze-and-Excitation Networks*, CVPR 2018.

    Example:
        >>> import torch
        >>> from mpnn_arch import ChannelPartition
        >>> from mpnn_arch.rounds.updates import SqueezeExcitation
        >>> squeeze = SqueezeExcitation(ChannelPartition(8, 4), reduction=2)
        >>> x = torch.ones(2, 8, 5, 5)
        >>> bool((squeeze(x) < x).all())
        True
    """

    def __init__(self, partition: ChannelPartition, reduction: int = 4) -> None:
        super().__init__()
        reduction = whole_number("a squeeze reduction", reduction)
        self.sizes = partition.sizes
        self.by_channel = partition.num_nodes == 1
        width = partition.num_channels if self.by_channel else partition.num_nodes
        hidden = max(1, width // reduction)
        self.squeeze, self.excite = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def reset_parameters(self) -> None:
        """Redraw the parameters by ``nn.Linear``'s rule."""
        self.squeeze.reset_parameters()
        self.excite.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)."""
        space = tuple(range(2, x.dim()))
        pooled = x.mean(space) if space else x
        if self.by_channel:
            pooled = pooled.mean(0, keepdim=True)
        else:
            pooled = torch.stack([s.mean(1) for s in pooled.split(self.sizes, dim=1)], dim=1)
        scale = self.excite(self.squeeze(pooled).relu()).sigmoid()
        if not self.by_channel:
            sizes = torch.tensor(self.sizes, device=x.device)
            scale = scale.repeat_interleave(sizes, dim=1, output_size=x.shape[1])
        return x * scale.view(*scale.shape, *[1] * len(space))

    def multiply_adds(self) -> int:
        """Multiply-adds of the two layers, for one sample."""
        return self.squeeze.weight.numel() + self.excite.weight.numel()


def make_norm(
    norm: str | nn.Module | None, partition: ChannelPartition, spatial_dims: int
) -> nn.Module | None:
    """The norm registered as ``norm``; a module is returned unchanged.

    Raises:
        InputError: an unknown name, or something else.
    """
    if isinstance(norm, str):
        return norms.get(norm)(partition, spatial_dims)
    if norm is not None and not isinstance(norm, nn.Module):
        raise InputError(
            f"a norm is a name such as 'batch', or a module over the channels, not {shown(norm)}"
        )
    return norm


def make_squeeze(reduction: int | None, partition: ChannelPartition) -> SqueezeExcitation | None:
    """The squeeze-and-excitation of this reduction, with provisional parameters; None for none."""
    if reduction is None:
        return None
    with torch.random.fork_rng(devices=[]):  # redrawn later, from the round's generator
        return SqueezeExcitation(partition, reduction)


def check_kwargs(**given: Any) -> None:
    """Reject keyword arguments that are no dictionary.

    Raises:
        InputError: naming the first that is none.
    """
    for name, value in given.items():
        fits = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        if value is not None and not fits:
            raise InputError(f"{name} is a dictionary of names to values, not {shown(value)}")


def check_residual(
    residual: bool, in_partition: ChannelPartition, out_partition: ChannelPartition
) -> bool:
    """Reject a residual if input and output shares differ.

    Raises:
        InputError: the shares in and out differ.
    """
    if check_flag("residual", residual) and in_partition.sizes != out_partition.sizes:
        raise InputError(
            f"a residual needs the same shares in and out, these are {in_partition.num_channels} "
            f"-> {out_partition.num_channels} channels; use equal ones, or residual=False"
        )
    return residual


def make_activation(
    activation: str | Callable[[Tensor], Tensor] | None,
) -> Callable[[Tensor], Tensor] | None:
    """The activation named ``activation`` (as in PyG and ``torch.nn``); callables are unchanged.

    Raises:
        InputError: an unknown name, a class, or what cannot be called.
    """
    if isinstance(activation, type) or not (
        activation is None or isinstance(activation, str) or callable(activation)
    ):
        raise InputError(
            f"an activation is a name such as 'relu', or a callable such as torch.relu or "
            f"torch.nn.ReLU(), not {shown(activation)}"
        )
    if not isinstance(activation, str):
        return activation
    try:
        resolved: Callable[[Tensor], Tensor] = activation_resolver(activation)
    except ValueError:
        raise InputError(
            f"there is no activation {activation!r}; choose a class of torch.nn such as 'relu', "
            "'silu' or 'tanh', or give a callable"
        ) from None
    return resolved


def add_residual(out: Tensor, residual: Tensor) -> Tensor:
    """``out`` plus ``residual``, the nodes' features before the round.

    Raises:
        InputError: the round changed the shape, or ``residual`` is no tensor.
    """
    if not isinstance(residual, Tensor):
        raise InputError(f"a residual of a round is a tensor, not {shown(residual)}")
    if not out.is_nested and plain_shape(out) != plain_shape(residual):
        raise InputError(
            f"a residual adds {tuple(plain_shape(residual))} to {tuple(plain_shape(out))}; use "
            "as many channels in as out, stride 1 and padding='same', or residual=False"
        )
    return out + residual
