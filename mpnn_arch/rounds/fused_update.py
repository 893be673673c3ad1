"""The update of a fused round over maps as one operation: BatchNorm, residual and ReLU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from mpnn_arch.kernels.dispatch.tracing import PLAIN_TYPES, is_plain
from mpnn_arch.kernels.norm import can_normalise, normalise

Activation = Callable[[Tensor], Tensor] | None


def batch_norm_update(
    norm: nn.Module | None, activation: Activation, x: Tensor, residual: Tensor | None
) -> Tensor | None:
    """activation(norm(x) + residual) in one pass over the maps, and the norm's running statistics.

    Returns:
        None where it is not a BatchNorm of a batch of maps and a ReLU or nothing, where a part is
        hooked or replaced, and for tensors that the kernel does not take: they need its parts.
    """
    if torch.compiler.is_compiling():
        return None
    if not (type(norm) is nn.BatchNorm2d and norm.training and _is_untouched(norm)):
        return None
    relu = activation is torch.relu or activation is F.relu
    if not (relu or activation is None):
        if not (type(activation) is nn.ReLU and _is_untouched(activation)):
            return None
        relu = True
    if _has_any_global_hook() or torch.is_autocast_enabled(x.device.type):
        return None
    states = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    if not all(_is_like(x, state) for state in states if state is not None):
        return None
    if residual is not None and not (_is_like(x, residual) and residual.shape == x.shape):
        return None
    if not (is_plain(x, x) and x.shape[1] == norm.num_features and can_normalise(x)):
        return None
    y, mean, variance = normalise(x, residual, norm.weight, norm.bias, norm.eps, relu)
    _track(norm, mean, variance, x.numel() // x.shape[1])
    return y


def _is_untouched(module: nn.Module) -> bool:
    """Whether a call of the module is its class's ``forward``, which nobody watches."""
    return not (
        "forward" in module.__dict__
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _is_like(x: Tensor, other: Tensor) -> bool:
    return (
        type(other) in PLAIN_TYPES
        and other.dtype is x.dtype
        and other.device == x.device
        and other.layout is torch.strided
    )


@torch.no_grad()
def _track(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics as ``nn.BatchNorm2d`` does, the variance unbiased."""
    rate = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if rate is None:  # a plain average
            rate = 1.0 / float(norm.num_batches_tracked)
    if norm.running_mean is None or norm.running_var is None:
        return
    norm.running_mean.lerp_(mean, rate or 0.0)
    norm.running_var.lerp_(variance * (count / (count - 1)), rate or 0.0)
