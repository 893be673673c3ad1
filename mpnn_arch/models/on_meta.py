"""A copy of a model and an input for it on the meta device: shapes without values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mpnn_arch.checks import LARGEST_COUNT, as_list, check_whole, shown
from mpnn_arch.errors import InputError
from mpnn_arch.rounds import GraphRound, MessageRound, RelationalConv2d
from mpnn_arch.rounds.copied import deep_copy


def example_on_meta(
    model: nn.Module,
    input_size: int | Sequence[int] | None,
    inputs: Tensor | Mapping[str, Tensor] | None,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor], int]:
    """Arguments on the meta device, by place and by name, and the size of their batch."""
    if inputs is None:
        shape = _input_shape(model, input_size)
        return (torch.empty(1, *shape, device="meta", dtype=_dtype(model)),), {}, 1
    if input_size is not None:
        raise InputError("input_size and inputs both give the input; leave one out")
    named = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
    tensors = list(named.values())
    if not tensors or any(not isinstance(t, Tensor) or not t.shape or not len(t) for t in tensors):
        raise InputError(
            f"inputs are a tensor or a dict of tensors with a batch, not {shown(inputs)}; give "
            "them as the model takes them"
        )
    kwargs = {name: value.detach().to("meta") for name, value in named.items()}
    if isinstance(inputs, Tensor):
        return (kwargs[""],), {}, len(inputs)
    return (), kwargs, len(tensors[0])


def _input_shape(model: nn.Module, size: int | Sequence[int] | None) -> tuple[int, ...]:
    config: Any = getattr(model, "model_config", None)
    if size is None:
        if config is None:
            raise InputError(
                f"{type(model).__name__} has no known input size; give it, as "
                "input_size=(3, 224, 224)"
            )
        return tuple(config.input_shape)
    given = tuple(
        check_whole("a length of input_size", length, 1, LARGEST_COUNT)
        for length in ([size] if isinstance(size, int) else as_list("input_size", size))
    )
    takes_vectors = _starts_linear(model) if config is None else len(config.input_shape) == 1
    if len(given) > 2 or takes_vectors or not (isinstance(size, int) or config is not None):
        return given
    channels = config.in_channels if config is not None else 3
    return (channels, given[0], given[-1])


def _starts_linear(model: nn.Module) -> bool:
    """Whether the first layer that multiplies is over vectors; it would take an image, by rows."""
    kinds = (nn.Linear, _ConvNd, MessageRound)
    first = next((part for part in model.modules() if isinstance(part, kinds)), None)
    if isinstance(first, MessageRound):
        return not first.message_function.spatial_dims
    return isinstance(first, nn.Linear)


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def refuse_lazy(model: nn.Module) -> None:
    """Refuse a model with weights whose shapes its first input would tell.

    Raises:
        InputError: naming the first of them.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise InputError(
                f"the shape of {name} of this {type(model).__name__} is not known before its first "
                "input: call the model once"
            )


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of ``model`` on the meta device: tensors have shapes but no values."""
    refuse_lazy(model)
    # With meta copies of all tensors in its memo, deepcopy copies no data.
    copies: dict[int, Any] = {}
    for parameter in model.parameters():
        shape = parameter.detach().to("meta")
        copies[id(parameter)] = nn.Parameter(shape, parameter.requires_grad)
    for buffer in model.buffers():
        copies[id(buffer)] = buffer.detach().to("meta")
    for module in model.modules():
        if isinstance(module, MessageRound):
            copies[id(module.plan)] = module.plan
    copied = deep_copy(model, copies).eval()
    for module in copied.modules():
        if has_own_graph(module):
            module.forward = _shape_of(module)  # type: ignore[assignment, method-assign]
    return copied


def has_own_graph(module: nn.Module) -> TypeGuard[MessageRound]:
    """Whether this is a round whose cost its own graph tells, and not that of its input."""
    return isinstance(module, MessageRound) and not isinstance(module, GraphRound)


def _shape_of(layer: MessageRound) -> Callable[..., Tensor]:
    """A forward that only infers the output's shape."""
    function: Any = layer.message_function

    def forward(x: Tensor, residual: Tensor | None = None) -> Tensor:
        if function.geometry is None:
            return x.new_empty(*x.shape[:-1], layer.out_channels)
        if isinstance(layer, RelationalConv2d):
            size = layer.output_size(*x.shape[-2:])
        else:
            size = function.geometry.checked_output_size(x.shape[-2:])
        return x.new_empty(*x.shape[:-3], layer.out_channels, *size)

    return forward
