"""Initial parameters of message functions."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mpnn_arch.kernels.memory import device_or_default, require_memory
from mpnn_arch.kernels.plan import RoundPlan


def new_parameter(
    *shape: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Parameter:
    """A parameter of this shape, with values still to be drawn.

    Raises:
        InputError: it cannot fit into memory.
    """
    entry = torch.empty(0, dtype=dtype, device="cpu").element_size()
    require_memory(
        math.prod(shape) * entry,
        device_or_default(device),
        f"a parameter of shape {shape}",
        "use fewer channels, a sparser graph, or device='meta'",
    )
    return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))


def fill_uniform(
    parameter: Tensor, bound: Tensor | float, generator: torch.Generator | None = None
) -> None:
    """Fill ``parameter`` uniformly in +-``bound``, a number or one per entry of dimension 0.

    Drawn on the CPU, so that a seed gives the same numbers on every device.
    """
    if parameter.is_meta:
        return
    drawn = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
    drawn.uniform_(-1, 1, generator=generator)
    if isinstance(bound, Tensor):
        bound = bound.to(parameter.dtype).view(-1, *[1] * (parameter.dim() - 1))
    set_values(parameter, drawn.mul_(bound))


def set_values(parameter: Tensor, values: Tensor) -> None:
    """Copy ``values`` into ``parameter``, of the same shape.

    Of a parameter that is sharded over processes, as by ``fully_shard``, every process takes its
    part of the values that the first one has, so that those of a network need no common seed.
    """
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is not None:
        # Imported here: it takes longer than a round does, and few need it.
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = parameter
        values = distribute_tensor(values.to(mesh.device_type), mesh, sharded.placements)
    with torch.no_grad():
        parameter.copy_(values)


def fan_in_bound(plan: RoundPlan, kernel_area: int, gain: Tensor) -> Tensor:
    """(num_weights,): gain_v / sqrt(fan_in_v * kernel_area), with the fan-in of node v.

    (1,) where it is the same at all nodes: the long one takes longer than drawing the weights.
    With a gain of 1 this is the rule of ``nn.Linear`` and ``nn.Conv2d``.
    """
    plan = plan.to("cpu")
    bound = gain * (plan.fan_in * kernel_area).to(torch.float64).rsqrt()
    if len(bound.unique()) == 1:
        return bound[:1]
    return bound.repeat_interleave(plan.out_sizes * plan.fan_in)
