"""Torch's code that takes the ``weight`` of a layer for a matrix, or for the layer's own parameter.

It calls nothing of the layer that it reads, so that only the frame of the caller says who reads.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import fusion, parametrizations, parametrize

from mpnn_arch.errors import InputError

_ON_MATRIX = (
    "the weight of a round is its message function's, in a vector: parametrise its matrix by "
    "mpnn_arch.rounds.on_matrix(layer, torch.nn.utils.parametrizations.spectral_norm) and its "
    "like, or its entries by parametrising layer.message_function"
)
_FUSION = (
    "torch.nn.utils.fusion scales the rows of a matrix, which the weight of a round is not: give "
    "it mpnn_arch.to_dense(layer)"
)
_REFUSED: dict[CodeType, str] = {
    fusion.fuse_conv_bn_eval.__code__: _FUSION,
    fusion.fuse_linear_bn_eval.__code__: _FUSION,
    parametrizations.orthogonal.__code__: _ON_MATRIX,
    parametrizations.spectral_norm.__code__: _ON_MATRIX,
    nn.MultiheadAttention.forward.__code__: (
        "nn.MultiheadAttention reads the weight of its out_proj as a matrix, which that of a round "
        "is not: turn the attention as a whole by mpnn_arch.relationalize(attention, graph)"
    ),
}
_FAST_PATHS = frozenset(
    kind.forward.__code__ for kind in (nn.TransformerEncoderLayer, nn.TransformerEncoder)
)


class NotAMatrix(Tensor):
    """A weight for which torch's encoder layers take their ordinary path, as for any subclass."""


def weight_for_caller(weight: Tensor) -> Tensor:
    """The flat weight of a round, for the code that reads the property which calls this.

    Raises:
        InputError: code of torch's that would take it for a matrix.
    """
    code = sys._getframe(2).f_code
    if code in _FAST_PATHS and type(weight) in (Tensor, nn.Parameter):
        return weight.as_subclass(NotAMatrix)
    if code in _REFUSED:
        raise InputError(_REFUSED[code])
    return weight


def refuse_parametrisation() -> None:
    """Called where a round is asked for its ``parametrizations``: refuse one of its weight.

    Raises:
        InputError: ``register_parametrization(layer, "weight", ...)`` asks.
    """
    frame = sys._getframe(2)
    caller = frame.f_back
    if (
        frame.f_code is parametrize.is_parametrized.__code__
        and caller is not None
        and caller.f_code is parametrize.register_parametrization.__code__
        and caller.f_locals["tensor_name"] == "weight"
    ):
        raise InputError(_ON_MATRIX)


class OwnParameters(dict[str, Any]):
    """The parameters of a round itself, in which the older norms look for its weight."""

    def __missing__(self, name: str) -> Any:
        raise InputError(_ON_MATRIX) if name == "weight" else KeyError(name)

    def __delitem__(self, name: str) -> None:
        if name == "weight" and name not in self:
            raise InputError(_ON_MATRIX)
        super().__delitem__(name)
