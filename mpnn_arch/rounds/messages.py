"""Message functions: what node u tells node v along an edge, f_vu(x_u).

The paper's messages have their own parameters on every edge. A new one subclasses
:class:`MessageFunction` and is registered by name.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.kernels import masked
from mpnn_arch.kernels.block_matmul import Backend, block_conv2d, block_matmul
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.registry import Registry

message_functions: Registry[type["MessageFunction"]] = Registry("message function")


class MessageFunction(nn.Module):
    r"""f_vu, the message along every edge of one round, all edges at once.

    A subclass makes its parameters in ``__init__``, fills them in :meth:`reset_parameters` and
    computes all messages in :meth:`forward`.

    Args:
        plan: where the shares and weights of the round lie.

    Attributes:
        uses_target: whether :meth:`forward` reads ``x_i``, what the receiver holds.
        spatial_dims: trailing dimensions of a node feature after its channels: 0 for vectors,
            2 for stacks of maps.
        fusable: whether :meth:`fused` computes the sum of the messages without making them.

    Shapes:
        - **x_j:** (E, B, largest_in, ...), what the sender of each edge holds, zero-padded
        - **x_i:** (E, B, largest_in, ...), what the receiver holds, or None
        - **index:** (E,) the receiver of each edge, ascending
        - **output:** (E, B, largest_out, ...), zero where a receiver's share is smaller
    """

    uses_target: ClassVar[bool] = False
    spatial_dims: ClassVar[int] = 0
    fusable: ClassVar[bool] = False

    def __init__(self, plan: RoundPlan) -> None:
        super().__init__()
        self.plan = plan

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move the plan's index tensors along with the parameters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0, device=self.plan.device)).device
        if device.type != "meta":
            self.plan = self.plan.to(device)
        return self

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh parameters from ``generator`` (None: torch's default one)."""
        raise NotImplementedError

    def forward(self, x_j: Tensor, x_i: Tensor | None, index: Tensor) -> Tensor:
        """All messages of the round."""
        raise NotImplementedError

    def fused(self, x: Tensor, backend: Backend) -> Tensor:
        """The sum of the messages every node receives: (B, C_in, ...) -> (B, C_out, ...)."""
        raise NotImplementedError

    def dense_weight(self) -> Tensor:
        """The (C_out, C_in, ...) matrix that :meth:`fused` multiplies with.

        Raises:
            InputError: the sum of these messages is not a product with one matrix.
        """
        raise InputError(
            f"a round of {type(self).__name__} is not one matrix; use message='linear' or 'conv'"
        )

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """Multiply-adds of all messages for one sample.

        Args:
            spatial_size: height and width of the output maps, for a message over maps.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Edges and weights, for ``repr``."""
        return f"{self.plan.num_edges} edges"


@message_functions.register("linear")
class LinearMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu x_u, with its own matrix W_vu on every edge.

    Only real channels have parameters: W_vu is (size_v, size_u), and ``weight`` holds the
    entries of all of them in the layout of :mod:`mpnn_arch.kernels.plan`.

    Args:
        plan: where the shares and weights of the round lie.
        device, dtype: of the parameters, as for ``nn.Linear``.

    Shapes:
        - **weight:** (num_weights,)
        - **x_j:** (E, B, largest_in), **output:** (E, B, largest_out)

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.
    """

    fusable = True

    def __init__(
        self,
        plan: RoundPlan,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(plan)
        self.weight = nn.Parameter(torch.empty(plan.num_weights, device=device, dtype=dtype))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform in +-1/sqrt(K_v), K_v the channels node v hears: ``nn.Linear``'s rule."""
        _uniform_by_fan_in(self.weight, self.plan, kernel_area=1, generator=generator)

    def edge_blocks(self) -> Tensor:
        """Every W_vu, zero-padded: (E, largest_out, largest_in)."""
        return F.pad(self.weight, [0, 1])[self.plan.block_index]

    def forward(self, x_j: Tensor, x_i: Tensor | None, index: Tensor) -> Tensor:
        """(E, B, largest_in) -> (E, B, largest_out)."""
        return torch.bmm(x_j, self.edge_blocks().transpose(1, 2))

    def fused(self, x: Tensor, backend: Backend) -> Tensor:
        """(B, C_in) -> (B, C_out), one product with the gathered blocks."""
        return block_matmul(x, self.weight, self.plan, backend)

    def dense_weight(self) -> Tensor:
        """(C_out, C_in), zero where the graph has no edge."""
        return masked.dense_weight(self.weight, self.plan)

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """One per weight."""
        return self.plan.num_weights


@message_functions.register("conv")
class ConvMessage(MessageFunction):
    r"""f_vu(x_u) = W_vu * x_u, a convolution with its own kernels on every edge.

    A node holds a stack of maps; W_vu is (size_v, size_u, K, K).

    Args:
        plan: where the shares and weights of the round lie.
        kernel_size, stride, padding, dilation: (height, width) each, as for ``nn.Conv2d``.
        device, dtype: of the parameters.

    Shapes:
        - **weight:** (num_weights, K, K)
        - **x_j:** (E, B, largest_in, H, W), **output:** (E, B, largest_out, H', W')

    Source: You et al., *Graph Structure of Neural Networks*, ICML 2020, section 2.3.
    """

    fusable = True
    spatial_dims = 2

    def __init__(
        self,
        plan: RoundPlan,
        *,
        kernel_size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(plan)
        self.kernel_size, self.stride = kernel_size, stride
        self.padding, self.dilation = padding, dilation
        self.weight = nn.Parameter(
            torch.empty(plan.num_weights, *kernel_size, device=device, dtype=dtype)
        )

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Uniform in +-1/sqrt(K_v K K), K_v the maps node v hears: ``nn.Conv2d``'s rule."""
        _uniform_by_fan_in(self.weight, self.plan, math.prod(self.kernel_size), generator)

    def edge_blocks(self) -> Tensor:
        """Every W_vu, zero-padded: (E, largest_out, largest_in, K, K)."""
        return F.pad(self.weight, [0, 0, 0, 0, 0, 1])[self.plan.block_index]

    def forward(self, x_j: Tensor, x_i: Tensor | None, index: Tensor) -> Tensor:
        """(E, B, largest_in, H, W) -> (E, B, largest_out, H', W')."""
        # One group an edge: the edges' kernels never mix.
        maps = F.conv2d(
            x_j.transpose(0, 1).flatten(1, 2),
            self.edge_blocks().flatten(0, 1),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.plan.num_edges,
        )
        return maps.unflatten(1, (self.plan.num_edges, self.plan.largest_out)).transpose(0, 1)

    def fused(self, x: Tensor, backend: Backend) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H', W'), one convolution with the gathered kernels."""
        geometry = (self.stride, self.padding, self.dilation)
        return block_conv2d(x, self.weight, self.plan, *geometry, backend)

    def dense_weight(self) -> Tensor:
        """(C_out, C_in, K, K), zero where the graph has no edge."""
        return masked.dense_weight(self.weight, self.plan)

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """One per weight and output pixel."""
        return self.plan.num_weights * math.prod(self.kernel_size) * math.prod(spatial_size)

    def extra_repr(self) -> str:
        """Edges and the kernel's geometry."""
        return (
            f"{self.plan.num_edges} edges, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}"
        )


def make_message(
    message: str | type[MessageFunction] | MessageFunction, plan: RoundPlan, **kwargs: Any
) -> MessageFunction:
    """The message function called ``message``, or of that class, on ``plan``.

    Raises:
        InputError: an unknown name, or arguments the function does not take.
    """
    if isinstance(message, MessageFunction):
        if message.plan is not plan:
            raise InputError(
                f"this {type(message).__name__} was made for another round; give its class, "
                "or a name, and let the round make it"
            )
        return message
    made = message_functions.get(message) if isinstance(message, str) else message
    try:
        return made(plan, **kwargs)
    except TypeError as error:
        raise InputError(f"the message function {made.__name__} refused: {error}") from error


def _uniform_by_fan_in(
    weight: Tensor, plan: RoundPlan, kernel_area: int, generator: torch.Generator | None
) -> None:
    """Fill ``weight`` uniformly in +-1/sqrt(fan-in of its target node)."""
    if weight.is_meta:
        return
    plan = plan.to("cpu")
    fan_in = (plan.row_width * kernel_area).to(torch.float64)
    bound = fan_in.rsqrt().repeat_interleave(plan.out_sizes * plan.row_width)
    drawn = torch.empty(weight.shape, dtype=weight.dtype).uniform_(-1, 1, generator=generator)
    bound = bound.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1))
    with torch.no_grad():
        weight.copy_(drawn * bound)
