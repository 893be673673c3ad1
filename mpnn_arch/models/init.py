"""Initial weights scaled by the fan-in of every node."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn import SumAggregation

from mpnn_arch.checks import check_choice, check_kind
from mpnn_arch.rounds import ConvMessage, LinearMessage, MessageRound
from mpnn_arch.rounds.generator import check_generator
from mpnn_arch.rounds.messages.initial import set_values
from mpnn_arch.rounds.wrapped import unwrapped

Init = Literal["published", "kaiming"]
INITS = ("published", "kaiming")


@torch.no_grad()
def initialise(model: nn.Module, init: Init, generator: torch.Generator) -> None:
    """Draw every weight of ``model`` from ``generator``, in the order of its modules.

    ``"published"``: normal. A conv's standard deviation is sqrt(2 / (K * K * out * share)), where
    share is the fraction of a dense kernel's weights that the layer has; a linear layer's is 0.01.
    Biases are 0 and BatchNorms 1, except the last BatchNorm of a residual block, which is 0.

    ``"kaiming"``: normal with standard deviation sqrt(2 / fan-in), where the fan-in of a target
    node is K * K times the channels of its in-neighbours. A ReLU network then keeps the scale of
    its activations on any graph. Biases are 0 and BatchNorms 1.

    Rounds whose messages are not linear, or not summed, keep the values that their
    ``reset_parameters`` drew, those of layers inside a message or an aggregation too.

    Raises:
        InputError: an unknown name, or no model.

    Source: He, Zhang, Ren, Sun, ICCV 2015; the published runs of You, Leskovec, He, Xie, 2020.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs, models
        >>> model = models.build("mlp", graphs.ring(16, 4), in_features=64, hidden_features=128)
        >>> models.initialise(model, "kaiming", torch.Generator().manual_seed(1))
    """
    check_kind("model", model, nn.Module, "give one")
    check_choice("init", init, INITS)
    check_generator(generator)
    own = _of_messages_and_aggregations(model)
    for module in model.modules():
        if isinstance(module, MessageRound):
            _fill_round(module, init, generator)
        elif module in own:
            continue
        elif isinstance(module, nn.Linear | nn.Conv2d):
            _fill_dense(module, init, generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
    for module in model.modules():
        if init == "published" and (last := getattr(module, "zero_init_norm", None)) is not None:
            cast(nn.BatchNorm2d, last).weight.zero_()
        for name in getattr(module, "embeddings", ()):
            _normal(getattr(module, name), 0.02, generator)


def _of_messages_and_aggregations(model: nn.Module) -> set[nn.Module]:
    rounds = [module for module in model.modules() if isinstance(module, MessageRound)]
    parts = [part for layer in rounds for part in (layer.message_function, layer.aggr_module)]
    return {module for part in parts for module in part.modules()}


def _fill_dense(layer: nn.Linear | nn.Conv2d, init: Init, generator: torch.Generator) -> None:
    out_channels, fan_in, *kernel = layer.weight.shape
    area = math.prod(kernel)
    if init == "kaiming":
        std = math.sqrt(2 / (fan_in * area))
    elif isinstance(layer, nn.Conv2d):
        std = math.sqrt(2 / (area * out_channels))
    else:
        std = 0.01
    _normal(layer.weight, std, generator)
    if layer.bias is not None:
        layer.bias.zero_()


def _fill_round(layer: MessageRound, init: Init, generator: torch.Generator) -> None:
    function: Any = layer.message_function
    if type(function) not in (LinearMessage, ConvMessage):
        return
    if type(unwrapped(layer.aggr_module)) is not SumAggregation:
        return
    plan, area = layer.plan.to("cpu"), function.kernel_area  # where all is drawn
    std: float | Tensor
    if init == "kaiming":
        fan_in = (plan.fan_in * area).double()
        per_node = (2 / fan_in).sqrt().to(function.weight.dtype)
        per_entry = per_node.repeat_interleave(plan.out_sizes * plan.fan_in)
        std = per_entry.view(-1, *[1] * (function.weight.dim() - 1))
    elif isinstance(function, ConvMessage):
        std = math.sqrt(2 / (area * plan.out_channels * plan.block_density))
    else:
        std = 0.01
    _normal(function.weight, std, generator)
    if layer.bias is not None:
        layer.bias.zero_()


def _normal(weight: Tensor, std: float | Tensor, generator: torch.Generator) -> None:
    if weight.is_meta:
        return
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
    drawn.normal_(generator=generator)
    set_values(weight, drawn * std)
