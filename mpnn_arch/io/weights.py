"""Loading tensors from a file into a module."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """``module.load_state_dict(weights)``, for weights in the current format of every layer.

    A state dict of torch carries its layers' versions, a file of tensors does not; layers that
    convert older formats, such as torchvision's MNASNet, refuse weights without a version.

    Args:
        module: of the same classes as the one that was saved.
        weights: its state dict.

    Raises:
        RuntimeError: names or shapes differ.
    """
    state = OrderedDict(weights)
    versions = {name: {"version": layer._version} for name, layer in module.named_modules()}
    state._metadata = OrderedDict(versions)  # type: ignore[attr-defined]
    module.load_state_dict(state)
