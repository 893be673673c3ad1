"""How kernels move over maps, and the convolution that keeps edges apart."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over maps, (height, width) each, as for ``nn.Conv2d``."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def area(self) -> int:
        """Weights of one kernel."""
        return math.prod(self.kernel_size)


POINTWISE = Geometry((1, 1))


def conv_by_edge(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    """Convolve every edge's maps with its own kernels, which never mix: one group an edge.

    Shapes:
        - **x:** (E, B, C, H, W), **kernels:** (E, C', C, K, K)
        - **output:** (E, B, C', H', W')
    """
    num_edges, channels = kernels.shape[:2]
    maps = F.conv2d(
        x.transpose(0, 1).flatten(1, 2),
        kernels.flatten(0, 1),
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=num_edges,
    )
    return maps.unflatten(1, (num_edges, channels)).transpose(0, 1)


def depthwise_by_edge(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    """Convolve every map of every edge with its own kernel.

    Shapes:
        - **x:** (E, B, C, H, W), **kernels:** (E, C, K, K)
        - **output:** (E, B, C, H', W')
    """
    num_edges, channels = kernels.shape[:2]
    maps = F.conv2d(
        x.transpose(0, 1).flatten(1, 2),
        kernels.flatten(0, 1).unsqueeze(1),
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=num_edges * channels,
    )
    return maps.unflatten(1, (num_edges, channels)).transpose(0, 1)
