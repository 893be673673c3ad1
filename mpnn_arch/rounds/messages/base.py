"""What every message function is, and where it is found by name."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mpnn_arch.errors import InputError
from mpnn_arch.kernels.block_matmul import Backend
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.registry import Registry
from mpnn_arch.rounds.messages.edge_product import ALL_EDGES, EdgeProduct
from mpnn_arch.rounds.messages.geometry import Geometry

message_functions: Registry[type["MessageFunction"]] = Registry("message function")


class MessageFunction(nn.Module):
    r"""f_vu, the message along every edge of one round, all edges at once.

    A subclass makes its parameters in ``__init__`` and computes the messages in :meth:`forward`.
    Where the parameters are :class:`EdgeProduct` modules, :meth:`reset_parameters` and
    :meth:`multiply_adds` are inherited; otherwise it gives its own.

    Args:
        plan: where the shares and weights of the round lie.
        kernel_size, stride, padding, dilation: (height, width) each, for a round over maps; None
            for a round over vectors.
        device, dtype: of the parameters, as for ``nn.Linear``.

    Attributes:
        uses_target: whether :meth:`forward` reads ``x_i``, what the receiver holds.
        shared: whether all edges share the parameters, so that the graph may come with the input.
        fusable: whether :meth:`fused` computes the sum of the messages without making them.
        uses_block_index: whether messages are made with ``plan.block_index``, which is large.
        vectors_instead: for a function over maps only, the one to use over vectors.
        maps_instead: for a function over vectors only, the one to use over maps.
        geometry: how kernels move over the maps; None over vectors.
        gain: (N,) the factor that the initial messages to each node carry, so that what the
            aggregation makes of them starts at the scale of a sum. The round sets it.

    Shapes:
        - **x_j:** (E, B, largest_in, ...), what the sender of each edge holds, zero-padded
        - **x_i:** (E, B, largest_in, ...), what the receiver holds, or None
        - **index:** (E,) the receiver of each edge, ascending
        - **edges:** which edges these are, a slice of all; a function that does not take it is
          always given all edges
        - **output:** (E, B, largest_out, ...); channels past a receiver's share are dropped

    Raises:
        InputError: vectors for a function over maps, or the other way around.
    """

    uses_target: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    fusable: ClassVar[bool] = False
    uses_block_index: ClassVar[bool] = False
    vectors_instead: ClassVar[str | None] = None
    maps_instead: ClassVar[str | None] = None

    def __init__(
        self,
        plan: RoundPlan,
        *,
        kernel_size: tuple[int, int] | None = None,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if kernel_size is None and self.vectors_instead:
            raise InputError(
                f"{name} works on maps and was given no kernel_size; over vectors use "
                f"message={self.vectors_instead!r}"
            )
        if kernel_size is not None and self.maps_instead:
            raise InputError(
                f"{name} works on vectors, this round is over maps; use "
                f"message={self.maps_instead!r}"
            )
        self.plan = plan
        self.geometry = (
            None if kernel_size is None else Geometry(kernel_size, stride, padding, dilation)
        )
        self.gain = torch.ones(plan.num_nodes, dtype=torch.float64, device="cpu")
        self.factory: dict[str, Any] = {"device": device, "dtype": dtype}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass with messages of its own cannot be computed by its parent's product."""
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        if "forward" in own and "fused" not in own and "fusable" not in own:
            cls.fusable = False

    @property
    def spatial_dims(self) -> int:
        """Trailing dimensions of a node feature after its channels: 0 for vectors, 2 for maps."""
        return 0 if self.geometry is None else 2

    @property
    def kernel_area(self) -> int:
        """Weights of one kernel; 1 over vectors."""
        return 1 if self.geometry is None else self.geometry.area

    @property
    def takes_edges(self) -> bool:
        """Whether :meth:`forward` can be given some of the edges."""
        return "edges" in inspect.signature(self.forward).parameters

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move the plan's index tensors along with the parameters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0, device=self.plan.device)).device
        if device.type != "meta":
            self.plan = self.plan.to(device)
        return self

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh parameters from ``generator`` (None: torch's default one)."""
        products = self._products()
        if not products and any(True for _ in self.parameters()):
            raise NotImplementedError(f"{type(self).__name__} has no reset_parameters")
        for product in products:
            product.reset_parameters(generator, self.gain)

    def forward(
        self, x_j: Tensor, x_i: Tensor | None, index: Tensor, edges: slice = ALL_EDGES
    ) -> Tensor:
        """The messages along ``edges``."""
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
        products = self._products()
        if not products and any(True for _ in self.parameters()):
            raise NotImplementedError(f"{type(self).__name__} has no multiply_adds")
        return sum(product.multiply_adds(spatial_size) for product in products)

    def extra_repr(self) -> str:
        """Edges, and the kernel's geometry."""
        edges = f"{self.plan.num_edges} edges"
        if self.geometry is None:
            return edges
        told = ", ".join(f"{key}={value}" for key, value in vars(self.geometry).items())
        return f"{edges}, {told}"

    def _products(self) -> list[EdgeProduct]:
        return [module for module in self.children() if isinstance(module, EdgeProduct)]


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
    if not (isinstance(made, type) and issubclass(made, MessageFunction)):
        raise InputError(
            f"a message is the name of a message function or a MessageFunction class, not {made!r}"
        )
    try:
        return made(plan, **kwargs)
    except TypeError as error:
        raise InputError(f"the message function {made.__name__} refused: {error}") from error
