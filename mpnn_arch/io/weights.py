"""Loading tensors from a file into a module, and whether they fit it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from mpnn_arch.errors import InputError


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


def check_weights(module: nn.Module, weights: Mapping[str, Tensor], fix: str) -> None:
    """Check that the weights of a file have the names, shapes and kinds of those of ``module``.

    Args:
        module: may have its tensors on the meta device.
        weights: of the file.
        fix: what to do where they differ, for the message, whose subject is the file.

    Raises:
        InputError: they differ.
    """
    own = module.state_dict()
    unknown, missing = sorted(weights.keys() - own.keys()), sorted(own.keys() - weights.keys())
    for names, fault in ((unknown, "holds weights of another model"), (missing, "lacks weights")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"it {fault}: {names[0][:80]}{more}; {fix}")
    for name, value in weights.items():
        expected = own[name]
        if value.shape != expected.shape:
            raise InputError(
                f"{name} is {tuple(value.shape)}, and the model's is {tuple(expected.shape)}; {fix}"
            )
        if _kind(value) != _kind(expected):
            raise InputError(f"{name} is {value.dtype}, and the model's is {expected.dtype}; {fix}")


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()
