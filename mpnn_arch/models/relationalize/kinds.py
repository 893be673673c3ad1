"""The kinds of layers that have a relational form, where a module has them, how each is turned."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.graphs import RelationalGraph
from mpnn_arch.models.relationalize.attention import RelationalAttention
from mpnn_arch.models.relationalize.conv1d import RelationalConv1d
from mpnn_arch.models.relationalize.experts import (
    RelationalExperts,
    is_stack_of_experts,
    matrices,
)
from mpnn_arch.models.relationalize.transposed import TransposedLinear
from mpnn_arch.partition import Order
from mpnn_arch.rounds import MessageRound, RelationalConv2d, RelationalLinear

# Methods that a layer of its own class may define and still be no more than a dense layer.
_BUILDING = {"__init__", "reset_parameters", "extra_repr"}
_ATTENTION = nn.MultiheadAttention(1, 1, device="meta")


@dataclass(frozen=True)
class Kind:
    """One kind of dense layer.

    Attributes:
        label: as errors call it.
        matches: whether a layer is of this kind, or of a subclass.
        added: the name of something that a layer's subclass adds to this kind, which a round would
            lose; empty for nothing.
        widths: its input and output channels.
        narrowest: the smallest number of channels that a graph shares out; of a grouped conv, those
            of a group.
        convert: (layer, graph, keywords of the rounds) -> the relational layer with those weights
            that lie on an edge.
    """

    label: str
    matches: Callable[[Any], bool]
    added: Callable[[Any], str]
    widths: Callable[[Any], tuple[int, int]]
    narrowest: Callable[[Any], int]
    convert: Callable[[Any, RelationalGraph, dict[str, Any]], nn.Module]


def kind_of(layer: nn.Module) -> Kind | None:
    """The kind of a layer; None if it has no relational form."""
    return next((kind for kind in KINDS if kind.matches(layer)), None)


def layers_with_weights(module: nn.Module) -> dict[str, tuple[nn.Module, Kind | None]]:
    """The layers that own weights, with their kind; parts of a dense layer or a round are its own.

    A round that the module has already is left alone.
    """
    found: dict[str, tuple[nn.Module, Kind | None]] = {}
    inside: set[int] = set()
    for name, part in module.named_modules():
        if id(part) in inside:
            continue
        kind = kind_of(part)
        if kind is not None or isinstance(part, MessageRound):
            inside.update(id(inner) for inner in part.modules())
        if kind is not None or (
            not isinstance(part, MessageRound) and any(True for _ in part.parameters(recurse=False))
        ):
            found[name] = (part, kind)
    return found


def convert(
    kind: Kind, layer: nn.Module, graph: RelationalGraph, order: Order, backend: str
) -> nn.Module:
    """The relational form of ``layer``: its weights on edges, its bias, device, dtype and mode.

    Raises:
        InputError: options that a round does not have.
    """
    first = next(layer.parameters())
    changed = kind.convert(
        layer,
        graph,
        {
            "backend": backend,
            "order": order,
            # The draw is overwritten; the global state is not touched.
            "generator": torch.Generator(),
            "device": "meta" if first.is_meta else "cpu",
            "dtype": first.dtype,
        },
    )
    if not first.is_meta:
        changed.to(first.device)
    return changed.train(layer.training)


def _fill(round_: MessageRound, weight: Tensor, bias: Tensor | None) -> None:
    """Copy those of a dense layer's weights that lie on an edge, and its bias."""
    own: list[tuple[Any, Tensor | None]] = [(round_.weight, weight), (round_.bias, bias)]
    for parameter, source in own:
        if parameter is None or source is None:
            continue
        parameter.requires_grad_(source.requires_grad)
        if source.is_meta:
            continue
        value = source.detach().cpu()
        with torch.no_grad():
            parameter.copy_(value[round_.plan.dense_mask] if source is weight else value)


def _linear(layer: nn.Linear, graph: RelationalGraph, keywords: dict[str, Any]) -> nn.Module:
    has_bias = layer.bias is not None
    round_ = RelationalLinear(
        graph, layer.in_features, layer.out_features, bias=has_bias, **keywords
    )
    _fill(round_, layer.weight, layer.bias)
    return round_


def _conv2d(layer: nn.Conv2d, graph: RelationalGraph, keywords: dict[str, Any]) -> nn.Module:
    round_ = RelationalConv2d(
        graph,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        groups=layer.groups,
        padding_mode=layer.padding_mode,
        **keywords,
    )
    _fill(round_, _ungrouped(layer.weight, layer.groups), layer.bias)
    return round_


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """(C_out, C_in, ...) from the (C_out, C_in / groups, ...) of a grouped conv, zero elsewhere."""
    if groups == 1 or weight.is_meta:
        return weight
    blocks = weight.unflatten(0, (groups, -1)).unbind()
    full = weight.detach().new_zeros(len(weight), groups * weight.shape[1], *weight.shape[2:])
    rows, columns = len(weight) // groups, weight.shape[1]
    for i, block in enumerate(blocks):
        full[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = block.detach()
    return full.requires_grad_(weight.requires_grad)


def _conv1d(layer: nn.Conv1d, graph: RelationalGraph, keywords: dict[str, Any]) -> nn.Module:
    changed = RelationalConv1d(
        graph,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size[0],
        layer.stride[0],
        layer.padding if isinstance(layer.padding, str) else layer.padding[0],
        layer.dilation[0],
        bias=layer.bias is not None,
        groups=layer.groups,
        padding_mode=layer.padding_mode,
        **keywords,
    )
    _fill(changed.round, _ungrouped(layer.weight, layer.groups).unsqueeze(-2), layer.bias)
    return changed


def _transposed(layer: Any, graph: RelationalGraph, keywords: dict[str, Any]) -> nn.Module:
    round_ = TransposedLinear(graph, *layer.weight.shape, **keywords)
    _fill(round_, layer.weight.t(), layer.bias)
    return round_


def _attention(
    layer: nn.MultiheadAttention, graph: RelationalGraph, keywords: dict[str, Any]
) -> nn.Module:
    changed = RelationalAttention(
        graph,
        layer.embed_dim,
        layer.num_heads,
        layer.dropout,
        layer.in_proj_bias is not None,
        layer.bias_k is not None,
        layer.add_zero_attn,
        layer.kdim,
        layer.vdim,
        layer.batch_first,
        **keywords,
    )
    # Views of the packed matrix still say whether it is frozen.
    packed: Any = layer.in_proj_weight
    weights = (
        (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        if packed is None
        else packed.chunk(3)
    )
    biases: Any = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    rounds = (changed.q_proj, changed.k_proj, changed.v_proj)
    for round_, weight, bias in zip(rounds, weights, biases, strict=True):
        _fill(round_, weight, bias)
    _fill(changed.out_proj, layer.out_proj.weight, layer.out_proj.bias)
    for name in ("bias_k", "bias_v"):
        own, source = getattr(changed, name), getattr(layer, name)
        if source is not None:
            own.requires_grad_(source.requires_grad)
            if not source.is_meta:
                own.data.copy_(source.detach())
    return changed


def _experts(layer: Any, graph: RelationalGraph, keywords: dict[str, Any]) -> nn.Module:
    num_experts, hidden, inner = layer.down_proj.shape
    act = copy.deepcopy(layer.act_fn)
    changed = RelationalExperts(graph, num_experts, hidden, inner, act, **keywords)
    for name, stack in matrices(layer.gate_up_proj, layer.down_proj).items():
        for round_, matrix in zip(getattr(changed, name), stack, strict=True):
            _fill(round_, matrix, None)
    return changed


def _is_transposed(layer: Any) -> bool:
    """Whether this is the ``Conv1D`` of the transformers library: y = x W + b, W (C_in, C_out).

    It is known by its name and attributes, since that library is not imported here.
    """
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    return (
        type(layer).__name__ == "Conv1D"
        and isinstance(weight, Tensor)
        and isinstance(bias, Tensor)
        and weight.dim() == 2
        and getattr(layer, "nf", None) == weight.shape[1] == len(bias)
    )


def _added(layer: nn.Module, plain: nn.Module) -> str:
    """What the class of ``layer`` adds to that of ``plain``, beside how it is built and shown."""
    bases = [base for base in type(layer).__mro__ if base not in type(plain).__mro__]
    found = [
        name
        for base in bases
        for name, value in vars(base).items()
        if name not in _BUILDING and (callable(value) or not name.startswith("__"))
    ]
    for own, known in zip(_states(layer), _states(plain), strict=True):
        found += own.keys() - known.keys() if bases else ()
    return min(found, default="")


def _states(layer: nn.Module) -> tuple[dict[str, Any], ...]:
    return vars(layer), layer._parameters, layer._buffers, layer._modules


def _of_type(
    plain: nn.Module, widths: Callable[[Any], tuple[int, int]], change: Callable[..., Any]
) -> Kind:
    kind = type(plain)
    return Kind(
        label=f"nn.{kind.__name__}",
        matches=lambda layer: isinstance(layer, kind),
        added=lambda layer: _added(layer, plain),
        widths=widths,
        narrowest=lambda layer: min(widths(layer)) // getattr(layer, "groups", 1),
        convert=change,
    )


def _features(layer: nn.Linear) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _channels(layer: nn.Conv1d | nn.Conv2d) -> tuple[int, int]:
    return layer.in_channels, layer.out_channels


KINDS: tuple[Kind, ...] = (
    _of_type(nn.Linear(1, 1, device="meta"), _features, _linear),
    _of_type(nn.Conv2d(1, 1, 1, device="meta"), _channels, _conv2d),
    _of_type(nn.Conv1d(1, 1, 1, device="meta"), _channels, _conv1d),
    Kind(
        label="transformers' Conv1D",
        matches=_is_transposed,
        added=lambda _: "",
        widths=lambda layer: tuple(layer.weight.shape),
        narrowest=lambda layer: min(layer.weight.shape),
        convert=_transposed,
    ),
    Kind(
        label="nn.MultiheadAttention",
        matches=lambda layer: isinstance(layer, nn.MultiheadAttention),
        added=lambda layer: _added(layer, _ATTENTION),
        widths=lambda layer: (layer.embed_dim, layer.embed_dim),
        narrowest=lambda layer: min(layer.embed_dim, layer.kdim, layer.vdim),
        convert=_attention,
    ),
    Kind(
        label="a stack of experts",
        matches=is_stack_of_experts,
        added=lambda _: "",
        widths=lambda layer: (layer.down_proj.shape[1], layer.down_proj.shape[2]),
        narrowest=lambda layer: min(layer.down_proj.shape[1:]),
        convert=_experts,
    ),
)
