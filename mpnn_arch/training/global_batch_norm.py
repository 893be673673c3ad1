"""BatchNorm over the batch of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpnn_arch.rounds.fused_update import track_statistics


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm whose mean and variance are those of the global batch.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` with mean and (biased) variance over all
    processes' images and pixels; the running variance takes the unbiased one. The variance is
    summed about the mean, in a second exchange, so that nothing cancels.

    It stands in for ``nn.SyncBatchNorm``, which exists on GPUs alone.

    Shapes:
        - **x** and **output:** (B, C, ...); B may differ among processes, and be 0
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    # Exchanges between processes are not traced.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        if not self.training and self.running_mean is not None:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        x = input if input.dtype == torch.float64 else input.float()
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        own = x.new_full((1,), x.numel() / x.shape[1])
        total = _sum_over_processes(torch.cat([own, x.sum(dims)]))
        count, mean = total[0].detach(), total[1:] / total[0].detach()
        centred = x - mean.view(shape)
        variance = _sum_over_processes(centred.square().sum(dims)) / count
        track_statistics(self, mean.detach(), variance.detach(), count)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)


def over_processes(model: nn.Module, device: torch.device) -> nn.Module:
    """``model`` with every BatchNorm over the global batch; parameters and names stay.

    On a GPU they become torch's ``nn.SyncBatchNorm``, else :class:`GlobalBatchNorm`.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if isinstance(model, _BatchNorm):
        return _global(model)
    for name, child in model.named_children():
        if (new := over_processes(child, device)) is not child:
            setattr(model, name, new)
    return model


def _global(norm: _BatchNorm) -> GlobalBatchNorm:
    if isinstance(norm, GlobalBatchNorm):
        return norm
    made = GlobalBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name, parameter in norm._parameters.items():
        made._parameters[name] = parameter
    for name, buffer in norm._buffers.items():
        made._buffers[name] = buffer
    return made.train(norm.training)


class _Sum(torch.autograd.Function):
    """The sum over processes; every process's gradient counts for every process's part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


def _sum_over_processes(x: Tensor) -> Tensor:
    summed: Tensor = _Sum.apply(x)
    return summed
