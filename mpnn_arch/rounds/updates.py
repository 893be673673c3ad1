"""Update functions: what a node does with its aggregate, a norm and then an activation."""

from collections.abc import Callable

from torch import Tensor, nn
from torch_geometric.nn.resolver import activation_resolver

from mpnn_arch.errors import InputError
from mpnn_arch.registry import Registry

norms: Registry[Callable[[int, int], nn.Module]] = Registry("norm")


@norms.register("batch")
def batch_norm(num_channels: int, spatial_dims: int) -> nn.Module:
    """Batch normalisation of every channel."""
    return nn.BatchNorm2d(num_channels) if spatial_dims else nn.BatchNorm1d(num_channels)


def make_norm(
    norm: str | nn.Module | None, num_channels: int, spatial_dims: int
) -> nn.Module | None:
    """The norm called ``norm``; a module is taken as it is.

    Raises:
        InputError: an unknown name.
    """
    return norms.get(norm)(num_channels, spatial_dims) if isinstance(norm, str) else norm


def make_activation(
    activation: str | Callable[[Tensor], Tensor] | None,
) -> Callable[[Tensor], Tensor] | None:
    """The activation called ``activation`` (as in PyG and ``torch.nn``); a callable stays.

    Raises:
        InputError: an unknown name.
    """
    if not isinstance(activation, str):
        return activation
    try:
        made: Callable[[Tensor], Tensor] = activation_resolver(activation)
    except ValueError:
        raise InputError(
            f"there is no activation {activation!r}; choose a class of torch.nn such as 'relu', "
            "'silu' or 'tanh', or give a callable"
        ) from None
    return made
