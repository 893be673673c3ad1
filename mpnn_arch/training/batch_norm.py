"""BatchNorm's statistics, estimated anew before an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batch_norm(
    model: nn.Module, forward: Callable[[Tensor], object], batches: Iterable[Tensor]
) -> None:
    """Replace every BatchNorm's running mean and variance by the average over ``batches``.

    The running statistics of training are an average over weights that have changed since; these
    belong to the weights that are evaluated. Statistics of a smaller last batch count as much as
    those of a whole one.

    Args:
        model: in training mode.
        forward: runs it on a batch.
        batches: images (B, C, H, W) each, B at least 2.

    Source: "precise BatchNorm" of the published runs; Wu, Johnson, *Rethinking "Batch" in
    BatchNorm*, 2021, section 3.
    """
    norms = [
        (module, module.momentum, module.num_batches_tracked)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None
    ]
    counts = [tracked.clone() for _, _, tracked in norms]
    for norm, _, _ in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches to come
    try:
        for images in batches:
            forward(images)
    finally:
        for (norm, momentum, tracked), count in zip(norms, counts, strict=True):
            norm.momentum = momentum
            tracked.copy_(count)
