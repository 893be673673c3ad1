"""A network whose tensors are spread over processes (FSDP2), and those tensors as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mpnn_arch.rounds import MessageRound

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread every parameter over all processes; a layer's are whole while it computes.

    The units are rounds, and layers outside of rounds that hold parameters of their own.
    """
    from torch.distributed.fsdp import fully_shard

    for part in _units(model):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _units(model: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, MessageRound) or any(True for _ in child.parameters(recurse=False)):
            found.append(child)
        else:
            found += _units(child)
    return found


def gather(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole tensors on the CPU, one after another; to be called on every process.

    Args:
        tensors: plain ones, and parts.
        keep: whether this process wants them; the others get an empty dictionary.
    """
    found = {}
    for name, value in tensors.items():
        part: Any = value.detach()
        whole: Tensor = part.full_tensor() if isinstance(part, DTensor) else part
        if keep:
            found[name] = whole.cpu().clone()
    return found


@torch.no_grad()
def scatter(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loaded: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] | None,
) -> None:
    """Give rank 0's weights and momentum to all processes, each its part.

    Args:
        model, optimizer: of every process.
        loaded: weights and momenta by name, whole; on rank 0 alone.
    """
    weights, momenta = loaded or ({}, {})
    box = [sorted(momenta)]
    dist.broadcast_object_list(box, src=0)
    for name, target in model.state_dict().items():
        _assign(target, weights.get(name))
    for name, parameter in model.named_parameters():
        if name in box[0]:
            momentum = torch.zeros_like(parameter)
            _assign(momentum, momenta.get(name))
            optimizer.state[parameter]["momentum_buffer"] = momentum


def _assign(target: Tensor, whole: Tensor | None) -> None:
    if isinstance(target, DTensor):
        if whole is None:
            whole = torch.empty(target.shape, dtype=target.dtype)
        whole = whole.to(target.device_mesh.device_type)
        parts = distribute_tensor(whole, target.device_mesh, target.placements)
        target.to_local().copy_(parts.to_local())
        return
    if whole is not None:
        target.copy_(whole)
    dist.broadcast(target, src=0)
