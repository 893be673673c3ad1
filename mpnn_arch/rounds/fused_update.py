"""The update of a fused round as one operation: BatchNorm, residual and ReLU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpnn_arch.kernels.dispatch.tracing import PLAIN_TYPES, is_plain, is_watched
from mpnn_arch.kernels.norm import COMPUTED_IN, can_normalise, normalise

Activation = Callable[[Tensor], Tensor] | None
_NORMS = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}  # by the dimensions of a batch


def batch_norm_update(
    norm: nn.Module | None, activation: Activation, x: Tensor, residual: Tensor | None
) -> Tensor | None:
    """activation(norm(x) + residual) as one operation, and the norm's running statistics.

    Returns:
        None where it is not a BatchNorm of a batch and a ReLU or nothing, where a part is
        hooked or replaced, and for tensors that the kernel does not take: they need its parts.
    """
    if torch.compiler.is_compiling():
        return None
    if not (type(norm) is _NORMS.get(x.dim()) and norm.training and not is_watched(norm)):
        return None
    relu = is_relu(activation)
    if not (relu or activation is None):
        return None
    states = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    dtype = COMPUTED_IN.get(x.dtype)
    if not all(_is_like(x, state, dtype) for state in states if state is not None):
        return None
    if residual is not None and not (_is_like(x, residual, x.dtype) and residual.shape == x.shape):
        return None
    if not (is_plain(x, x) and x.shape[1] == norm.num_features and can_normalise(x)):
        return None
    y, mean, variance = normalise(x, residual, norm.weight, norm.bias, norm.eps, relu)
    track_statistics(norm, mean, variance, x.numel() // x.shape[1])
    return y


def is_relu(activation: Activation) -> bool:
    """Whether this is a ReLU whose own call nobody waits for."""
    if type(activation) is nn.ReLU:
        return not is_watched(activation)
    return activation is torch.relu or activation is F.relu


def _is_like(x: Tensor, other: Tensor, dtype: torch.dtype | None) -> bool:
    return (
        type(other) in PLAIN_TYPES
        and other.dtype is dtype
        and other.device == x.device
        and other.layout is torch.strided
    )


@torch.no_grad()
def track_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
    """Move a BatchNorm's running statistics as torch does, the variance unbiased.

    Args:
        norm: whose buffers are written; one without them is left.
        mean: of every channel.
        variance: of every channel, biased.
        count: numbers in a channel.

    Shapes:
        - **mean** and **variance:** (C,)
    """
    if norm.running_mean is None or norm.running_var is None:
        return
    rate = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if rate is None:  # a plain average
            rate = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), rate or 0.0)
    unbiased = variance * (count / (count - 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), rate or 0.0)
