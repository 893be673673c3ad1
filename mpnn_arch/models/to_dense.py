"""A network's rounds as dense layers, for tools that know ``nn.Linear`` and ``nn.Conv2d`` only."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod

from mpnn_arch.checks import shown
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dispatch.tracing import has_own_forward
from mpnn_arch.models.dense import Dense
from mpnn_arch.rounds.copied import deep_copy
from mpnn_arch.rounds.fused_round import FusedRound
from mpnn_arch.rounds.hooks import HOOKED_STEPS, registered_hook
from mpnn_arch.rounds.layers import RelationalConv2d
from mpnn_arch.rounds.message_round import MessageRound
from mpnn_arch.rounds.wrapped import aggregation_must_be_called, must_be_called

# Where torch keeps the hooks on a module's calls.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def to_dense(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in which every round that is one product is a dense layer.

    The layer's weight is :meth:`FusedRound.dense_weight`, zero where the graph has no edge, so the
    outputs are the same; it costs the dense layer's memory and multiply-adds. Rounds that share a
    weight or a bias share it in the copy. A round without norm, squeeze, residual and activation
    becomes a plain ``nn.Linear`` or ``nn.Conv2d``, another one a
    :class:`~mpnn_arch.models.dense.Dense` that contains it. A plain layer takes no residual: a
    round that your network calls with one needs an ``activation``, if only ``nn.Identity()``.

    The copy is what to give to ``torch.ao.quantization.quantize_dynamic``, torchao, and converters
    without custom operators. Quantisers without zero points (their default for weights) keep the
    zeros. Training does not: the copy has a parameter for every pair of channels.

    Args:
        model: a network with rounds, or a round; it is not changed.

    Raises:
        InputError: no module, or one without a round that is one product.

    Warns:
        UserWarning: rounds that are not one product with their weights stay rounds, named with the
            reason.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.models import to_dense
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
        >>> dense = to_dense(layer)
        >>> dense
        Linear(in_features=8, out_features=8, bias=True)
        >>> x = torch.randn(3, 8)
        >>> torch.allclose(layer(x), dense(x), atol=1e-6)
        True
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"to_dense takes a torch module with rounds, not {shown(model)}")
    model = deep_copy(model)
    rounds = {name: m for name, m in model.named_modules() if isinstance(m, MessageRound)}
    reasons = {name: why_not_dense(layer) for name, layer in rounds.items()}
    kept = {name: reason for name, reason in reasons.items() if reason}
    if len(kept) == len(rounds):
        raise InputError(
            f"no round of this {type(model).__name__} is one product with its weights"
            + "".join(f"; {name or 'it'}: {reason}" for name, reason in kept.items())
        )
    if kept:
        said = "; ".join(f"{name}: {reason}" for name, reason in kept.items())
        warnings.warn(
            f"these rounds are not one product with their weights and stay rounds: {said}",
            stacklevel=2,
        )
    weights: dict[Any, nn.Parameter] = {}
    made = {id(rounds[name]): _dense(rounds[name], weights) for name in rounds if name not in kept}
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if id(child) in made:
                module._modules[name] = made[id(child)]
    return made.get(id(model), model)


def why_not_dense(layer: MessageRound) -> str | None:
    """Why a round cannot be a dense layer with norm and activation; None if it can."""
    if not isinstance(layer, FusedRound) or layer.graph is None:
        return "its graph comes with the input" if layer.graph is None else "it is no FusedRound"
    if type(layer).forward not in (FusedRound.forward, RelationalConv2d.forward):
        return f"{type(layer).__name__} overrides forward"
    if has_own_forward(layer):
        return "its forward was replaced"
    called = must_be_called(layer.message_function)
    called = called or aggregation_must_be_called(layer.aggr_module)
    if called:
        return called
    if layer._own_steps:
        return f"{type(layer).__name__} overrides {', '.join(sorted(layer._own_steps))}"
    if hook := registered_hook(layer, HOOKED_STEPS):
        return f"a {hook} is registered"
    return layer.why_not_fused()


@torch.no_grad()
def _dense(layer: FusedRound, weights: dict[Any, nn.Parameter]) -> nn.Module:
    """The dense layer, with the weight of ``weights`` where another round has the same entries."""
    weight, geometry = layer.dense_weight(), layer.message_function.geometry
    kwargs: dict[str, Any] = {"device": "meta", "bias": layer.bias is not None}
    dense: nn.Linear | nn.Conv2d
    if geometry is None:
        dense = nn.Linear(layer.in_channels, layer.out_channels, **kwargs)
    else:
        padding: Any
        kernel, stride, padding, dilation = geometry
        if isinstance(layer, RelationalConv2d):
            padding, kwargs["padding_mode"] = layer.padding, layer.padding_mode
        dense = nn.Conv2d(
            layer.in_channels, layer.out_channels, kernel, stride, padding, dilation, **kwargs
        )
    trained = any(p.requires_grad for p in layer.message_function.parameters())
    own = nn.Parameter(weight.clone(), requires_grad=trained)
    shared = weights.setdefault(_origin(layer), own)
    # Not those of a class of the caller's that makes another matrix of the same parameters.
    dense.weight = shared if weight.is_meta or torch.equal(shared, own) else own
    if isinstance(layer.bias, nn.Parameter):  # the very one, which another layer may have too
        dense.bias = layer.bias
    elif layer.bias is not None:  # computed, by pruning or a parametrisation
        dense.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    parts = (layer.norm, layer.activation, layer.squeeze)
    made: nn.Module = dense
    if layer.residual or any(part is not None for part in parts):
        made = Dense(dense, *parts, residual=layer.residual)
    made.training = dense.training = layer.training
    _take_hooks(made, layer)
    return made


def _origin(layer: FusedRound) -> tuple[Any, ...]:
    """What decides the matrix of a round: rounds in which it is the same share their weight."""
    function = layer.message_function
    computed = any(isinstance(part, ParametrizationList) for part in function.modules())
    tensors = () if computed else (*function.parameters(), *function.buffers())
    of = map(id, tensors or (function,))
    return (type(function), *of, layer.plan.key, layer._is_mean)


def _take_hooks(made: nn.Module, layer: nn.Module) -> None:
    """The hooks on the round's calls, without those that mask a pruned bias: it is masked now."""
    for kind in _HOOKS:
        hooks = getattr(layer, kind)
        kept = {key: hook for key, hook in hooks.items() if not isinstance(hook, BasePruningMethod)}
        getattr(made, kind).update(kept)
    made._is_full_backward_hook = layer._is_full_backward_hook
