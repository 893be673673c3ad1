"""The dense layers against which a round is timed: torch's default and oneDNN's product.

Which of the two is quicker depends on the processor: torch's default (usually MKL) runs at a
fraction of the peak on processors of other makers, where oneDNN does not. A round is rated against
the quicker one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.kernels import onednn


class OneDNNLinear(nn.Linear):
    """``nn.Linear`` whose three products are oneDNN's, whatever torch would select.

    Without a bias, on float32 vectors of the CPU: the rival of a timing, not a layer to train.

    Shapes:
        - **x:** (B, C_in)
        - **output:** (B, C_out)
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    @staticmethod
    def is_available() -> bool:
        """Whether torch was built with oneDNN, and has the operation that selects it."""
        return not onednn.unavailable_reason()

    def forward(self, x: Tensor) -> Tensor:
        """x W^T."""
        y: Tensor = _Product.apply(x, self.weight)
        return y


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn.matmul_transposed(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        product = onednn.matmul_transposed
        return product(grad, weight.t()), product(grad.t(), x.t())


def dense_rivals(width: int, device: torch.device, dtype: torch.dtype) -> dict[str, nn.Module]:
    """A dense layer of ``width`` channels without bias, by the library of its product.

    Args:
        width: input and output channels.
        device: to run on.
        dtype: of weights and input.
    """
    with torch.random.fork_rng(devices=[]):
        rivals: dict[str, nn.Module] = {"torch": nn.Linear(width, width, bias=False)}
        if device.type == "cpu" and dtype == torch.float32 and OneDNNLinear.is_available():
            rivals["onednn"] = OneDNNLinear(width, width)
    return {name: layer.to(device=device, dtype=dtype) for name, layer in rivals.items()}
