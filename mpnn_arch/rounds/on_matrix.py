"""Parametrisations that mean a matrix, on the matrix of a round instead of its weight vector.

A round keeps the entries of all W_vu in one vector. ``spectral_norm`` or ``weight_norm`` of that
vector would be another thing than that of the layer, so rounds refuse them, and
:func:`on_matrix` applies them to the (C_out, C_in, ...) matrix, zero where the graph has no edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mpnn_arch.checks import check_callable, check_kind
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dense import dense_weight, on_edges
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.rounds.fused_round import FusedRound


class OnMatrix(nn.Module):
    """A parametrisation of a round's matrix, as one of its weight vector.

    Args:
        plan: of the round.
        inner: the parametrisation of the (C_out, C_in, ...) matrix.

    Shapes:
        - **weight** and **output:** (num_weights, ...)
    """

    def __init__(self, plan: RoundPlan, inner: nn.Module) -> None:
        super().__init__()
        self.plan, self.inner = plan, inner

    def forward(self, *originals: Tensor) -> Tensor:
        """The entries on the edges of the parametrised matrix."""
        plan = self._plan_on(originals[0].device)
        matrices = [
            dense_weight(tensor, plan) if tensor.shape[0] == plan.num_weights else tensor
            for tensor in originals
        ]
        return on_edges(self.inner(*matrices), plan)

    def right_inverse(self, weight: Tensor) -> Tensor | Sequence[Tensor]:
        """The originals that give ``weight``: a matrix among them as its entries on the edges."""
        if not hasattr(self.inner, "right_inverse"):
            return weight
        plan = self._plan_on(weight.device)
        dense = dense_weight(weight, plan)
        originals = cast(Any, self.inner).right_inverse(dense)
        if isinstance(originals, Tensor):
            return on_edges(originals, plan)
        return [on_edges(t, plan) if t.shape == dense.shape else t for t in originals]

    def _plan_on(self, device: torch.device) -> RoundPlan:
        """The plan where the layer is now, its index made before it moves, as to ``meta``."""
        if device != self.plan.device:
            _ = self.plan.dense_index
        return self.plan.to(device)


def initialise_matrix(layer: FusedRound, init: Callable[..., object], **kwargs: Any) -> FusedRound:
    """Draw a round's weights by one of ``nn.init``'s functions of a matrix or of kernels.

    ``init`` fills the (C_out, C_in, ...) matrix, and the round takes its entries on the edges: on
    the complete graph that is what it does to ``nn.Linear`` and ``nn.Conv2d``. On another graph the
    fan-in that it counts is the dense layer's; :func:`mpnn_arch.models.initialise` counts the
    graph's.

    Args:
        layer: a round of linear or conv messages.
        init: such as ``nn.init.kaiming_normal_`` or ``nn.init.orthogonal_``.
        **kwargs: handed to ``init``, such as ``generator``.

    Returns:
        ``layer``.

    Raises:
        InputError: a round that is not one matrix of weights of its own.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds import initialise_matrix
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
        >>> one = torch.Generator().manual_seed(0)
        >>> layer = initialise_matrix(layer, torch.nn.init.orthogonal_, generator=one)
        >>> matrix = torch.nn.init.orthogonal_(torch.empty(8, 8), generator=one.manual_seed(0))
        >>> torch.equal(layer.dense_weight(), matrix * (layer.dense_weight() != 0))
        True
    """
    check_kind("layer", layer, FusedRound, "give a RelationalLinear or RelationalConv2d")
    check_callable("init", init, "give one of torch.nn.init, as nn.init.orthogonal_")
    function = layer.message_function
    if not function.plan_layout:
        raise InputError(
            f"the weights of {type(function).__name__} are not the entries of one matrix; "
            "initialise its parameters one by one"
        )
    with torch.no_grad():
        matrix = dense_weight(torch.zeros_like(function.flat_weight()), layer.plan).clone()
        init(matrix, **kwargs)
        layer.weight.copy_(on_edges(matrix, layer.plan.to(matrix.device)))
    return layer


def on_matrix(layer: FusedRound, apply: Callable[..., nn.Module], **kwargs: Any) -> FusedRound:
    """Apply one of torch's parametrisations to the matrix of a round, of a mean to that of the sum.

    Args:
        layer: a round of linear or conv messages.
        apply: such as ``torch.nn.utils.parametrizations.spectral_norm`` or ``weight_norm``.
        **kwargs: handed to ``apply``.

    Returns:
        ``layer``, whose ``message_function.weight`` is parametrised from now on.

    Raises:
        InputError: a round that is not one product with its weights, or a parametrisation that
            puts weights where the graph has no edge, as ``orthogonal`` does.

    Example:
        >>> import torch
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds import on_matrix
        >>> layer = RelationalLinear(graphs.ring(4, 2), 8, 8)
        >>> layer = on_matrix(layer, torch.nn.utils.parametrizations.spectral_norm)
        >>> layer(torch.zeros(2, 8)).shape
        torch.Size([2, 8])
    """
    check_kind("layer", layer, FusedRound, "give a RelationalLinear or RelationalConv2d")
    check_callable("apply", apply, "give one of torch.nn.utils.parametrizations, as spectral_norm")
    function = layer.message_function
    if function.fusable and not function.plan_layout:
        raise InputError(
            f"the weights of {type(function).__name__} are one matrix for all edges, and not the "
            "entries of the round's; parametrise layer.message_function itself"
        )
    training = function.training
    function.eval()  # spectral_norm iterates in training, whenever the weight is read
    try:
        inner = _of_matrix(layer, apply, training, kwargs)
        parametrize.register_parametrization(function, "weight", OnMatrix(layer.plan, inner))
    finally:
        function.train(training)
    return layer


def _of_matrix(
    layer: FusedRound, apply: Callable[..., nn.Module], training: bool, kwargs: dict[str, Any]
) -> nn.Module:
    """What ``apply`` makes of the matrix of ``layer``, in training or not."""
    holder = nn.Module().train(training)
    holder.weight = nn.Parameter(layer.dense_weight().detach().clone())
    apply(holder, **kwargs)
    if not parametrize.is_parametrized(holder, "weight"):
        raise InputError(
            f"{getattr(apply, '__name__', apply)} registers no parametrisation of the weight; use "
            "one of torch.nn.utils.parametrizations, or prune layer.message_function by "
            "prune.custom_from_mask"
        )
    inner: nn.Module = cast(Any, holder).parametrizations["weight"][0]
    holder.eval()
    with torch.no_grad():
        ones = torch.ones_like(layer.message_function.flat_weight())
        edges = dense_weight(ones, layer.plan) != 0
        if (cast(Tensor, holder.weight) * ~edges).any():
            raise InputError(
                f"{getattr(apply, '__name__', apply)} gives weights to pairs of nodes without an "
                "edge, so the round would leave its graph; use a parametrisation that keeps zeros, "
                "such as spectral_norm or weight_norm"
            )
    return inner
