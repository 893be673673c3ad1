"""The base class of message functions, and their registry."""

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from mpnn_arch.checks import check_kind, kind_of, shown
from mpnn_arch.errors import InputError
from mpnn_arch.kernels.dense import dense_weight
from mpnn_arch.kernels.dispatch.tracing import plain_shape
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan
from mpnn_arch.registry import Registry
from mpnn_arch.rounds.messages.edge_product import ALL_EDGES, EdgeProduct
from mpnn_arch.rounds.messages.vector_norms import refuse_vector_norms

message_functions: Registry[type["MessageFunction"]] = Registry("message function")

# The arguments that a `forward` may declare.
_ARGUMENTS = ("x_j", "x_i", "index", "edges")
_OF_THE_INPUT = (
    ". Features of edges that come with the input reach `message(self, x_j, edge_attr)` of a "
    "GraphRound's subclass; those of a fixed graph are a buffer here, read as buffer[edges]"
)
# Attributes for subclasses, which the round reads too.
_OFFERED = ("plan", "geometry", "initial_gain", "factory")
_TAKEN = frozenset([*vars(nn.Module()), *_OFFERED])  # `training`, ...
# The methods that a subclass may define, as the round calls them with one argument.
_CALLED = {
    "reset_parameters": "self, generator=None",
    "multiply_adds": "self, spatial_size=()",
}
_OF_EVERY_MESSAGE = {*ConvGeometry._fields, "device", "dtype"}
_ON_MATRIX = (
    "round",
    "use mpnn_arch.rounds.on_matrix(layer, torch.nn.utils.parametrizations.{}), which applies it "
    "to the round's matrix",
)


class MessageFunction(nn.Module):
    r"""f_vu, the message along every edge of one round, all edges at once.

    A subclass creates its parameters in ``__init__`` and computes the messages in ``forward``,
    which declares the arguments it needs, as in PyG: ``forward(self, x_j)``, or ``x_j, x_i``, in
    any order.
    Where all parameters are those of :class:`EdgeProduct` modules, at any depth,
    :meth:`reset_parameters` and :meth:`multiply_adds`, which counts each of them once, are
    inherited; otherwise the subclass defines them. A parameter may have any name that is not a
    method or attribute of ``MessageFunction`` or ``nn.Module``.

    Args:
        plan: index tensors of the round.
        kernel_size, stride, padding, dilation: (height, width) each, for a round over maps; None
            for a round over vectors.
        device, dtype: of the parameters, as for ``nn.Linear``.

    Attributes:
        arguments: the names that ``forward`` declares, in its order.
        shared: whether all edges share the parameters, so that the graph may come with the input.
        plan_layout: whether ``weight`` holds the entries of every W_vu by node, as the plan lays
            them out, and not by edge; :mod:`mpnn_arch.rounds.messages` says why there are both.
        fusable: whether the sum of the messages is one product with :meth:`flat_weight`.
        vectors_instead: for a function over maps only, the one to use over vectors.
        maps_instead: for a function over vectors only, the one to use over maps.
        geometry: of the convolution over maps; None over vectors.
        factory: device and dtype, to pass to an :class:`EdgeProduct`.
        initial_gain: (N,) a factor on the initial messages to each node, with which the aggregate
            starts at the scale of a sum. Set by the round.

    Shapes:
        - **x_j:** (E, B, largest_in, ...), the sender's features on each edge, zero-padded
        - **x_i:** (E, B, largest_in, ...), the receiver's
        - **index:** (E,) the receiver of each edge, ascending
        - **edges:** which edges these are, a slice of all; a function that is not ``shared`` and
          does not declare it always receives all edges, and is called once: large rounds call
          others for some edges at a time, and again in the backward pass
        - **output:** (E, B, largest_out, ...); channels past a receiver's share are dropped

    Raises:
        InputError: vectors for a function over maps, or the other way around; a parameter with
            the name of a method; or, when the class is defined, a ``forward`` that declares other
            arguments, or a method that does not take what it is called with.

    Example:
        >>> from mpnn_arch import MessageFunction, RelationalLinear, graphs
        >>> from mpnn_arch.rounds.messages import EdgeProduct
        >>> class Sine(MessageFunction):
        ...     def __init__(self, plan, **kwargs):
        ...         super().__init__(plan, **kwargs)
        ...         self.product = EdgeProduct(plan, self.geometry, **self.factory)
        ...
        ...     def forward(self, x_j):  # (E, B, C_in) -> (E, B, C_out)
        ...         return self.product(x_j).sin()
        ...
        >>> RelationalLinear(graphs.ring(4, 2), 8, 8, message=Sine).message_function.arguments
        ('x_j',)
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[bool] = False
    plan_layout: ClassVar[bool] = False
    fusable: ClassVar[bool] = False
    vectors_instead: ClassVar[str | None] = None
    maps_instead: ClassVar[str | None] = None
    # Whether `flat_weight` is the parameter `weight`, which a fused round then reads by itself.
    _weight_is_flat: ClassVar[bool] = False
    # The arguments of the class's own that `make_message` was given; None where made otherwise.
    _made_with: dict[str, Any] | None = None

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
        check_kind("plan", plan, RoundPlan, "take that of a round, as layer.plan")
        if kernel_size is None and self.vectors_instead:
            raise InputError(
                f"{name} works on maps and needs a kernel_size; over vectors use "
                f"message={self.vectors_instead!r}"
            )
        if kernel_size is not None and self.maps_instead:
            raise InputError(
                f"{name} works on vectors, this round is over maps; use "
                f"message={self.maps_instead!r}"
            )
        self.plan = plan
        self.geometry = (
            None if kernel_size is None else ConvGeometry.of(kernel_size, stride, padding, dilation)
        )
        self.factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.initial_gain = torch.ones(plan.num_nodes, dtype=torch.float64, device="cpu")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Read the arguments of ``forward``.

        A class is not fusable by default where it overrides what the messages are computed from.
        """
        super().__init_subclass__(**kwargs)
        for name, expected in _CALLED.items():
            method = vars(cls).get(name)
            if inspect.isfunction(method) and not _takes_one(method):
                raise InputError(
                    f"{cls.__name__}.{name}{inspect.signature(method)} is called with one argument:"
                    f" define {name}({expected})"
                )
        base = MessageFunction
        own_layout = (
            cls.flat_weight is base.flat_weight and cls.current_weight is base.current_weight
        )
        cls._weight_is_flat = cls.plan_layout and own_layout
        # Where each is defined, which may be a class that is mixed in.
        first = {
            name: next(i for i, kind in enumerate(cls.__mro__) if name in vars(kind))
            for name in ("forward", "edge_blocks", "flat_weight", "fusable")
        }
        if min(first["forward"], first["edge_blocks"]) < min(
            first["flat_weight"], first["fusable"]
        ):
            cls.fusable = False
        owner = cls.__mro__[first["forward"]]
        if owner is nn.Module or (owner is not cls and issubclass(owner, base)):
            return  # the arguments are inherited with it
        forward = vars(owner)["forward"]
        if not callable(forward) or isinstance(forward, staticmethod):
            raise InputError(
                f"{cls.__name__}.forward is a method, such as forward(self, x_j); not {forward!r}"
            )
        declared = list(inspect.signature(forward).parameters.values())[1:]
        unknown = [p.name for p in declared if p.name not in _ARGUMENTS and p.default is p.empty]
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        by_name = any(p.kind is p.KEYWORD_ONLY and p.name in _ARGUMENTS for p in declared)
        if unknown or by_name or any(p.kind in several for p in declared):
            features = _OF_THE_INPUT if {*unknown} & {"edge_attr", "edge_weight"} else ""
            raise InputError(
                f"{cls.__name__}.forward declares {', '.join(map(str, declared))}; a message "
                f"function declares the arguments it needs among {', '.join(_ARGUMENTS)}"
                f"{', none of them after a *' if by_name else ''}{features}"
            )
        cls.arguments = tuple(p.name for p in declared if p.name in _ARGUMENTS)

    def __call__(
        self,
        x_j: Tensor,
        x_i: Tensor | None = None,
        index: Tensor | None = None,
        edges: slice = ALL_EDGES,
    ) -> Tensor:
        """The messages along ``edges``: :meth:`forward` with the arguments that it declares.

        Raises:
            InputError: an argument that it declares is not given, or messages of another shape than
                (E, B, largest_out, ...).
        """
        if self.plan_layout:  # else a weight is no vector of entries
            refuse_vector_norms(self, *_ON_MATRIX)
        given = {"x_j": x_j, "x_i": x_i, "index": index, "edges": edges}
        absent = [name for name in self.arguments if given[name] is None]
        if absent:
            raise InputError(
                f"{type(self).__name__} needs {' and '.join(absent)}, which were not given: call "
                "message_function(x_j, x_i, index)"
            )
        messages: Tensor = super().__call__(*[given[name] for name in self.arguments])
        expected = (*plain_shape(x_j)[:2], self.plan.largest_out)
        if not isinstance(messages, Tensor):
            raise InputError(
                f"{type(self).__name__}.forward returned {kind_of(messages)}; it returns the "
                "messages, a tensor (E, B, C)"
            )
        shape = plain_shape(messages)
        if len(shape) != x_j.dim() or shape[:3] != expected:
            space = ", H', W'" if self.spatial_dims else ""
            raise InputError(
                f"{type(self).__name__} returned messages of shape {tuple(shape)}; "
                f"expected ({', '.join(map(str, expected))}{space}): edges, batch, channels of "
                "the largest share"
            )
        return messages

    @property
    def spatial_dims(self) -> int:
        """Trailing dimensions of a node feature after its channels: 0 for vectors, 2 for maps."""
        return 0 if self.geometry is None else 2

    @property
    def kernel_area(self) -> int:
        """Weights of one kernel; 1 over vectors."""
        return 1 if self.geometry is None else self.geometry.area

    def prepare(self) -> None:
        """Build the index tensors of the messages, so that they are not built under tracing."""
        _ = self.plan.edge_index, self.plan.in_index, self.plan.out_index
        if self.plan_layout:
            _ = self.plan.block_index

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Move the plan's index tensors along with the parameters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.move_plan(fn(torch.empty(0, device=self.plan.device)).device)
        return self

    def move_plan(self, device: torch.device) -> None:
        """Move the plan's index tensors alone, which never are on the meta device."""
        if device.type != "meta":
            self.plan = self.plan.to(device)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As ``nn.Module``'s, with one clear message for a name that is taken.

        Raises:
            InputError: the name of a method or attribute of the class, or of every module.
        """
        if name in _TAKEN or (hasattr(type(self), name) and name not in self._parameters):
            raise InputError(
                f"{type(self).__name__} has an attribute {name!r} already, which a parameter of "
                "that name would hide; choose another name for the parameter"
            )
        super().register_parameter(name, param)

    def set_initial_gain(self, gain: Tensor) -> None:
        """Set ``initial_gain``, (N,), by a call, which reaches a function in a wrapper too."""
        self.initial_gain = gain

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Redraw the parameters from ``generator`` (None: torch's default one)."""
        for product in self._products("reset_parameters"):
            product.reset_parameters(generator, self.initial_gain)

    def flat_weight(self) -> Tensor:
        """(num_weights, ...) the entries of every W_vu; see :mod:`mpnn_arch.kernels.plan`.

        Raises:
            InputError: the sum of these messages is not one product with their weights.
        """
        if not self.plan_layout:
            raise InputError(
                f"the weights of {type(self).__name__} are not the entries of one matrix; use "
                "message='linear' or 'conv'"
            )
        refuse_vector_norms(self, *_ON_MATRIX)
        return cast(Tensor, self.weight)

    def current_weight(self) -> Tensor:
        """:meth:`flat_weight`, masked anew where torch prunes a parameter.

        Pruning masks a parameter in a hook on the call of its module, and a fused round reads the
        weights without calling its message function.
        """
        for hook in list(self._forward_pre_hooks.values()):
            if isinstance(hook, BasePruningMethod):
                hook(self, ())  # type: ignore[no-untyped-call]
        return self.flat_weight()

    def edge_blocks(self, edges: slice = ALL_EDGES) -> Tensor:
        """Every W_vu, zero-padded: (E, largest_out, largest_in, ...).

        Raises:
            InputError: as :meth:`flat_weight`.
        """
        weight = self.current_weight()
        return F.pad(weight, [0, 0] * (weight.dim() - 1) + [0, 1])[self.plan.block_index[edges]]

    def dense_weight(self) -> Tensor:
        """The (C_out, C_in, ...) matrix of the round, zero where the graph has no edge.

        Raises:
            InputError: as :meth:`flat_weight`.
        """
        return dense_weight(self.current_weight(), self.plan)

    def multiply_adds(self, spatial_size: tuple[int, ...] = ()) -> int:
        """Multiply-adds of all messages for one sample.

        Args:
            spatial_size: height and width of the output maps, for a message over maps.
        """
        if self.fusable:
            return self.plan.num_weights * self.kernel_area * math.prod(spatial_size)
        return sum(p.multiply_adds(spatial_size) for p in self._products("multiply_adds"))

    def extra_repr(self) -> str:
        """Edges, and the kernel's geometry."""
        edges = f"{self.plan.num_edges} edges"
        if self.geometry is None:
            return edges
        arguments = ", ".join(f"{key}={value}" for key, value in self.geometry._asdict().items())
        return f"{edges}, {arguments}"

    def _products(self, method: str) -> list[EdgeProduct]:
        """Its edge products, at any depth, to which ``method`` is delegated."""
        products = [module for module in self.modules() if isinstance(module, EdgeProduct)]
        known = {id(parameter) for product in products for parameter in product.parameters()}
        if any(id(parameter) not in known for parameter in self.parameters()):
            raise InputError(
                f"{type(self).__name__} has no {method}, and parameters other than those of "
                f"EdgeProduct modules, whose scale and cost are known: define {method}"
            )
        return products


def _takes_one(method: Callable[..., Any]) -> bool:
    """Whether a method, of which ``self`` is the first argument, takes one more."""
    try:
        inspect.signature(method).bind(None, None)
    except TypeError:
        return False
    return True


def make_message(
    message: str | type[MessageFunction], plan: RoundPlan, **kwargs: Any
) -> MessageFunction:
    """The message function registered as ``message``, or of that class, on ``plan``.

    Raises:
        InputError: an unknown name, or arguments that the function does not accept.

    Example:
        >>> from mpnn_arch import RelationalLinear, graphs
        >>> from mpnn_arch.rounds.messages import make_message
        >>> plan = RelationalLinear(graphs.ring(4, 2), 8, 8).plan
        >>> make_message("gated", plan)
        GatedMessage(
          12 edges
          (value): EdgeProduct(48 weights, bias=False)
          (gate): EdgeProduct(48 weights, bias=False)
        )
    """
    kind = message_functions.get(message) if isinstance(message, str) else message
    if isinstance(kind, MessageFunction):
        raise InputError(
            f"a message is a class or a registered name, and the {type(kind).__name__} that was "
            "given is an object of one, which belongs to its own round: give the class, its "
            "arguments as message_kwargs; or set layer.message_function on a built round"
        )
    if not (isinstance(kind, type) and issubclass(kind, MessageFunction)):
        raise InputError(
            f"a message is the name of a message function or a MessageFunction class, "
            f"not {shown(kind)}; make a subclass of MessageFunction of it, whose "
            "forward(self, x_j) returns the messages"
        )
    if kind.forward is nn.Module.forward:
        raise InputError(
            f"{kind.__name__} has no forward: define forward(self, x_j), which returns the messages"
        )
    try:
        made = kind(plan, **kwargs)
    except TypeError as error:
        raise InputError(f"{kind.__name__} rejected its arguments: {error}") from error
    except AttributeError as error:
        if "before Module.__init__" not in str(error):
            raise
        raise InputError(
            f"{kind.__name__}.__init__ does not call MessageFunction's first: begin it with "
            "super().__init__(plan, **kwargs)"
        ) from None
    for name in _OFFERED:
        if name not in vars(made):
            raise InputError(
                f"{kind.__name__}.__init__ leaves no attribute {name!r}: begin it with "
                "super().__init__(plan, **kwargs), and give no module that name"
            )
    made._made_with = {name: kwargs[name] for name in kwargs if name not in _OF_EVERY_MESSAGE}
    return made
