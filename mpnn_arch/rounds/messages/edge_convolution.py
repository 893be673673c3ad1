"""Convolutions with separate kernels on every edge."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mpnn_arch.kernels.dispatch.tracing import jit_tracing
from mpnn_arch.kernels.geometry import ConvGeometry


def conv_by_edge(x: Tensor, kernels: Tensor, geometry: ConvGeometry) -> Tensor:
    """Convolve every edge's maps with its own kernels, one group per edge.

    Shapes:
        - **x:** (E, B, C, H, W), **kernels:** (E, C', C, K, K)
        - **output:** (E, B, C', H', W')
    """
    return _grouped(x, kernels.flatten(0, 1), geometry, kernels.shape[0])


def depthwise_by_edge(x: Tensor, kernels: Tensor, geometry: ConvGeometry) -> Tensor:
    """Convolve every map of every edge with its own kernel.

    Shapes:
        - **x:** (E, B, C, H, W), **kernels:** (E, C, K, K)
        - **output:** (E, B, C, H', W')
    """
    return _grouped(x, kernels.flatten(0, 1).unsqueeze(1), geometry, kernels[:, :, 0, 0].numel())


def _grouped(x: Tensor, kernels: Tensor, geometry: ConvGeometry, groups: int) -> Tensor:
    maps = x.transpose(0, 1).flatten(1, 2)
    if not (torch.compiler.is_compiling() or jit_tracing()):
        geometry = geometry.within(maps.shape[2:])
    _, stride, padding, dilation = geometry
    out = F.conv2d(maps, kernels, None, stride, padding, dilation, groups)
    return out.unflatten(1, (x.shape[0], -1)).transpose(0, 1)
