"""Launching on copies of the inputs in another layout, where a configuration asks for one.

``pack``: inputs channel-major. ``pad``: inputs and weights with shares padded to 16 bytes
(:mod:`mpnn_arch.kernels.triton_padding`), and results without them. The kernel itself is launched
by the function ``launch``: through Triton's dispatch, or past it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.kernels.triton_configs import Config, channel_major
from mpnn_arch.kernels.triton_padding import Padding, padded_shares

# Of the output, the inputs and the weights.
Product = Callable[[Tensor, Tensor, Tensor], object]
# Of the gradient and the inputs, for this many weights; the gradient with respect to these.
Weights = Callable[[Tensor, Tensor, int], Tensor]


def linear_product(
    launch: Product,
    config: Config,
    out: Tensor,
    a: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    *,
    transposed: bool,
) -> Tensor:
    """``out`` (B, C), from ``a`` and ``weight`` in the layout of ``config``."""
    if not config["pad"]:
        launch(out, channel_major(a) if config["pack"] else a, weight)
        return out
    padded = padded_shares(plan, a.device, a.itemsize, config["pad"])
    channels = padded.plan.in_channels if transposed else padded.plan.out_channels
    result = out.new_empty(a.shape[0], channels)
    _launch_padded(launch, padded, result, a, weight, transposed)
    written = padded.inputs if transposed else padded.outputs
    return torch.index_select(result, 1, written, out=out)


def linear_weights(
    launch: Weights, config: Config, grad: Tensor, x: Tensor, plan: RoundPlan
) -> Tensor:
    """(num_weights,), from ``grad`` and ``x`` in the layout of ``config``."""
    if config["pad"]:
        padded = padded_shares(plan, x.device, x.itemsize, config["pad"])
        wide_grad, wide_x = padded.spread_outputs(grad), padded.spread_inputs(x)
        return padded.gather_weights(launch(wide_grad, wide_x, padded.plan.num_weights))
    if config["pack"]:
        grad, x = channel_major(grad), channel_major(x)
    return launch(grad, x, plan.num_weights)


def conv_product(
    launch: Product,
    config: Config,
    out: Tensor,
    a: Tensor,
    weight: Tensor,
    plan: RoundPlan,
    *,
    transposed: bool,
) -> Tensor:
    """``out`` (B, C, H, W), from ``a`` and ``weight`` in the layout of ``config``."""
    if not config["pad"]:
        launch(out, a, weight)
        return out
    padded = padded_shares(plan, a.device, a.itemsize, config["pad"])
    _launch_padded(launch, padded, out, a, weight, transposed)  # which leaves no gaps
    return out


def _launch_padded(
    launch: Product, padded: Padding, out: Tensor, a: Tensor, weight: Tensor, transposed: bool
) -> None:
    wide = padded.spread_outputs(a) if transposed else padded.spread_inputs(a)
    launch(out, wide, padded.spread_weights(weight))


def conv_weights(
    launch: Weights,
    config: Config,
    grad: Tensor,
    x: Tensor,
    plan: RoundPlan,
    kernel_size: tuple[int, int],
) -> Tensor:
    """(num_weights, K, K), from ``grad`` and ``x`` in the layout of ``config``."""
    if not config["pad"]:
        return launch(grad, x, plan.num_weights).view(-1, *kernel_size)
    padded = padded_shares(plan, x.device, x.itemsize, config["pad"])
    wide_grad, wide_x = padded.spread_outputs(grad), padded.spread_inputs(x)
    wide = launch(wide_grad, wide_x, padded.plan.num_weights)
    return padded.gather_weights(wide.view(*kernel_size, -1))  # tap by tap
